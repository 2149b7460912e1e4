"""The idx format: pairs of files that agree, or one error that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.errors import SourceError
from millrace.sources import idx
from tests.factories import idx_images, idx_labels, make_contract, write_file
from tests.sources.broken_files import PACK

CONTRACT = make_contract(
    {"subset": {"type": "string"}, "index": {"type": "int"}, "image": {"type": "binary"}, "digit": {"type": "int"}}
)
WHOLE = {"images": idx_images(3), "labels": idx_labels([7, 0, 9])}


def pair(directory: Path, images: bytes = WHOLE["images"], labels: bytes = WHOLE["labels"]) -> tuple[str, str]:
    return (
        write_file(directory / "train-images-idx3-ubyte", images),
        write_file(directory / "train-labels-idx1-ubyte", labels),
    )


@pytest.mark.parametrize("packed", ["", *PACK])
def test_rows(tmp_path: Path, packed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "_BATCH_ROWS", 2)
    paths = pair(tmp_path)
    if packed:
        paths = paths[0] + packed, paths[1]  # of a pair one may be packed
        Path(paths[0]).write_bytes(PACK[packed](WHOLE["images"]))
        Path(paths[0].removesuffix(packed)).unlink()
    assert idx.pairs(list(reversed(paths))) == [paths]
    idx.check(paths, CONTRACT)
    batches = list(idx.read(paths, CONTRACT))
    assert [batch.num_rows for batch in batches] == [2, 1]
    assert all(batch.schema == idx.arrow_schema(CONTRACT) for batch in batches)
    columns = ("subset", "index", "image", "digit", "_source_file", "_rule")
    assert [tuple(row[name] for name in columns) for batch in batches for row in batch.to_pylist()] == [
        ("train", 0, bytes([0, 1, 2, 3]), 7, paths[0], None),
        ("train", 1, bytes([4, 5, 6, 7]), 0, paths[0], None),
        ("train", 2, bytes([8, 9, 10, 11]), 9, paths[0], None),
    ]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            idx_images(3, kind=9),
            WHOLE["labels"],
            "expected the magic number 00000803 in IMAGES; found 00000903. It is no idx file of this kind: fetch it again.",
        ),
        (
            WHOLE["labels"] + bytes(20),
            WHOLE["labels"],
            "expected the magic number 00000803 in IMAGES; found 00000801. It is no idx file of this kind: fetch it again.",
        ),
        (
            WHOLE["images"],
            idx_labels([7, 0]),
            "expected as many labels as images in LABELS; found 2 labels, 3 images. Fetch both files again.",
        ),
        (WHOLE["images"][:-1], WHOLE["labels"], "DAMAGED IMAGES (it ends 1 bytes early)"),
        (WHOLE["images"][:10], WHOLE["labels"], "DAMAGED IMAGES (it ends 6 bytes early)"),
        (b"", WHOLE["labels"], "DAMAGED IMAGES (it ends 4 bytes early)"),
        (idx_images(3, extra=b"x"), WHOLE["labels"], "DAMAGED IMAGES (it is longer than its header says)"),
        (WHOLE["images"], WHOLE["labels"] + b"x", "DAMAGED LABELS (it is longer than its header says)"),
        (WHOLE["images"], idx_labels([7, 0], num_labels=3), "DAMAGED LABELS (it ends 1 bytes early)"),
        (idx_images(3, shape=(0, 2)), WHOLE["labels"], "DAMAGED IMAGES (images of 0 x 2)"),
        (
            WHOLE["images"][:8] + b"\xff" * 8,
            WHOLE["labels"],
            "DAMAGED IMAGES (images of 4294967295 x 4294967295)",
        ),
    ],
)
def test_damage(tmp_path: Path, images: bytes, labels: bytes, message: str) -> None:
    paths = pair(tmp_path, images, labels)
    with pytest.raises(SourceError) as caught:
        idx.check(paths, CONTRACT)
        list(idx.read(paths, CONTRACT))
    found = str(caught.value).replace(paths[0], "IMAGES").replace(paths[1], "LABELS")
    found = found.replace("expected a whole file at ", "DAMAGED ").replace("; found that it is damaged", "")
    assert found.replace(". Fetch it again, then run the night again.", "") == f"ingest: {message}"


def test_a_truncated_gz(tmp_path: Path) -> None:
    paths = tuple(
        write_file(tmp_path / f"train-{name}-ubyte.gz", content)
        for name, content in (("images-idx3", idx_images(500)), ("labels-idx1", idx_labels([1] * 500)))
    )
    Path(paths[0]).write_bytes(Path(paths[0]).read_bytes()[:-12])
    with pytest.raises(SourceError, match=r"expected a whole file at .*images-idx3-ubyte.gz; found that it is damaged \("):
        list(idx.read(paths, CONTRACT))


@pytest.mark.parametrize("gone", [0, 1])
def test_half_a_pair(tmp_path: Path, gone: int) -> None:
    paths = pair(tmp_path)
    with pytest.raises(SourceError) as caught:
        idx.pairs([paths[1 - gone]])
    assert str(caught.value) == (
        "ingest: expected files in pairs, NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte; "
        f"found {paths[1 - gone]} alone. Fetch the other one."
    )


def test_the_contract_must_have_its_columns(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        idx.check(pair(tmp_path), make_contract())
    assert str(caught.value) == (
        "ingest: expected the columns subset, index, image, digit in tiny_raw; found id, name. Mend the contract."
    )
