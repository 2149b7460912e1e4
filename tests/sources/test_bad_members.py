"""Archives and directories of texts and pictures, broken: good and quarantined rows are all rows, or there is one clear error."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from millrace.config.sources import FilesSource, ImagesSource
from millrace.errors import ContractError, MillraceError, SecurityError, SourceError
from millrace.sources.files import list_files
from millrace.sources.read import source_of
from tests.factories import make_contract
from tests.sources.broken_files import PACK, count, header, png, png_header, read, tar, write, zipped

TEXTS = make_contract({"label": {"type": "string"}, "index": {"type": "int"}, "text": {"type": "string"}})
IMAGES = make_contract(
    {"label": {"type": "string"}, "image": {"type": "binary", "tensor": {"dtype": "uint8", "shape": [4, 6, 3]}}}
)
GOOD = ("d/pos/1.txt", b"fine"), ("d/neg/2.txt", "schön".encode())


def texts(**options: Any) -> FilesSource:
    values = {"name": "t", "format": "files", "path": "/x", "schema": "tiny_raw", "content": "text"}
    pattern = r"(?P<label>pos|neg)/(?P<index>\d+)\.txt"
    return FilesSource.model_validate({**values, "pattern": pattern, **options})


def images(**options: Any) -> ImagesSource:
    values = {"name": "t", "format": "images", "path": "/x", "schema": "tiny_raw", "content": "image"}
    return ImagesSource.model_validate({**values, "pattern": r"(?P<label>[^/]+)/[^/]+\.(?:png|jpg)", **options})


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.zst", "a.zip", "directory"])
def test_whole(tmp_path: Path, name: str) -> None:
    others = (("d/readme.md", b"no row"), ("d/pos/._3.txt", b"in the making"), ("d/pos/4.txt.tmp", b""))
    data = tar(header("d", tarfile.DIRTYPE), *GOOD, *others)
    compress = next(
        (pack for suffix, pack in PACK.items() if name.endswith(suffix) or (name == "a.tgz" and suffix == ".gz")), bytes
    )
    content = zipped(*GOOD, *others) if name == "a.zip" else compress(data)
    write(tmp_path, dict([*GOOD, *others]) if name == "directory" else {name: content})
    paths = source_of(texts()).find(str(tmp_path))
    rows = read(texts(), paths, TEXTS)
    assert {(row["label"], row["index"], row["text"]) for row in rows} == {("pos", "1", "fine"), ("neg", "2", "schön")}
    place = f"{tmp_path}" if name == "directory" else f"{tmp_path}/{name}!"
    assert {row["_source_file"] for row in rows} == {f"{place}/d/pos/1.txt", f"{place}/d/neg/2.txt"}


LONG = b"x" * 3_000
ENCRYPTED = bytearray(zipped(*GOOD))
for magic, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):  # the flag of the first member, in the directory and before the member
    ENCRYPTED[ENCRYPTED.index(magic) + place] |= 1
LINK = zipfile.ZipInfo("d/pos/9.txt")
LINK.external_attr = 0o120777 << 16
UNFIT = bytearray(zipped(GOOD[0], method=zipfile.ZIP_STORED))
UNFIT[UNFIT.index(b"fine")] ^= 1

REFUSED = [
    ("up.tar", tar(GOOD[0], ("../pos/1.txt", b"")), SecurityError, "names that stay within", "a member called '../pos/1.txt'"),
    ("within.tar", tar(("d/../pos/1.txt", b"")), SecurityError, "names that stay within", "a member called 'd/../pos/1.txt'"),
    ("root.tar", tar(("/etc/pos/1.txt", b"")), SecurityError, "names that stay within", "a member called '/etc/pos/1.txt'"),
    ("up.zip", zipped(("..\\pos\\1.txt", b"")), SecurityError, "names that stay within", "a member called '..\\\\pos\\\\1.txt'"),
    ("drive.zip", zipped(("C:/pos/1.txt", b"")), SecurityError, "names that stay within", "a member called 'C:/pos/1.txt'"),
    ("sym.tar", tar(header("a", tarfile.SYMTYPE, "/etc/passwd")), SecurityError, "files and directories", "'a', which is a link"),
    ("hard.tar", tar(GOOD[0], header("b", tarfile.LNKTYPE, "a")), SecurityError, "files and directories", "'b', which is a link"),
    ("dev.tar", tar(header("c", tarfile.CHRTYPE)), SecurityError, "files and directories", "'c', which is a device"),
    ("fifo.tar.gz", PACK[".gz"](tar(header("c", tarfile.FIFOTYPE))), SecurityError, "files and", "'c', which is a device"),
    ("sparse.tar", tar(header("s", tarfile.GNUTYPE_SPARSE)), SecurityError, "files and", "'s', which is a sparse file"),
    ("sym.zip", zipped((LINK, b"/etc/passwd")), SecurityError, "files and directories", "'d/pos/9.txt', which is a link"),
    ("locked.zip", bytes(ENCRYPTED), SecurityError, "not encrypted", "'d/pos/1.txt', which is encrypted"),
    ("lzma.zip", zipped(GOOD[0], method=zipfile.ZIP_LZMA), SecurityError, "deflated", "which is compressed in another way"),
    ("many.tar", tar(*[(f"{n}", b"") for n in range(6)]), SecurityError, "at most 5 members", "more. Nothing of it was read"),
    ("bomb.tar.gz", PACK[".gz"](tar(*[(f"{n}", LONG) for n in range(4)])), SecurityError, "at most 10,000 bytes", "more"),
    ("bomb.zip", zipped(*[(f"{n}", LONG) for n in range(4)]), SecurityError, "at most 10,000 bytes", "more"),
    ("twice.tar", tar(GOOD[0], GOOD[0]), SourceError, "each member once", "two called 'd/pos/1.txt'"),
    ("same.tar", tar(GOOD[0], ("./d//pos/1.txt", b"")), SourceError, "each member once", "two called './d//pos/1.txt'"),
    ("cut.tar", tar(*GOOD)[:1_000], SourceError, "a whole file", "damaged (unexpected end of data)"),
    ("header.tar", tar(*GOOD)[:700], SourceError, "a whole file", "damaged (unexpected end of data)"),
    ("border.tar", tar(GOOD[0])[:1_024], SourceError, "a whole file", "damaged (it ends without an end mark)"),
    ("garbage.tar", tar(GOOD[0])[:1_024] + b"garbage!" * 200, SourceError, "a whole file", "(it ends without an end mark)"),
    ("joined.tar", tar(GOOD[0]) + tar(GOOD[1]), SourceError, "a whole file", "damaged (there is more after its end mark)"),
    ("empty.tar", b"", SourceError, "a whole file", "damaged (empty file)"),
    ("text.tar", b"this is no archive" * 100, SourceError, "a whole file", "damaged (invalid header)"),
    ("cut.tar.gz", PACK[".gz"](tar(*GOOD))[:-9], SourceError, "a whole file", "damaged (Compressed file ended before"),
    ("cut.tar.zst", PACK[".zst"](tar(*GOOD))[:-9], SourceError, "a whole file", "damaged (Compressed file ended before"),
    ("crc.tar.bz2", PACK[".bz2"](tar(*GOOD))[:-4] + b"abcd", SourceError, "a whole file", "damaged ("),
    ("cut.zip", zipped(*GOOD)[:-30], SourceError, "a whole file", "damaged (File is not a zip file)"),
    ("crc.zip", bytes(UNFIT), SourceError, "a whole file", "damaged (Bad CRC-32 for file 'd/pos/1.txt')"),
]


@pytest.mark.parametrize(("name", "content", "kind", "expected", "found"), REFUSED, ids=[case[0] for case in REFUSED])
def test_refused_as_a_whole(
    tmp_path: Path, name: str, content: bytes, kind: type[MillraceError], expected: str, found: str
) -> None:
    write(tmp_path, {name: content})
    limits = {"members": 5, "total_bytes": 10_000, "member_bytes": 5_000}
    with pytest.raises(MillraceError) as caught:
        read(texts(limits=limits), [str(tmp_path / name)], TEXTS)
    text = str(caught.value)
    assert type(caught.value) is kind
    assert text.startswith("ingest: expected ")
    assert expected in text
    assert found in text
    assert f"in {tmp_path / name};" in text or f"at {tmp_path / name};" in text


def test_two_whole_messages(tmp_path: Path) -> None:
    write(tmp_path, {"a.tar": tar(("../x", b"")), "b.tar": tar(*[(f"{n}", b"") for n in range(3)])})
    messages = []
    for name in ("a.tar", "b.tar"):
        with pytest.raises(SecurityError) as caught:
            read(texts(limits={"members": 2}), [str(tmp_path / name)], TEXTS)
        messages.append(str(caught.value).replace(f"{tmp_path}/", ""))
    assert messages == [
        "ingest: expected names that stay within the archive in a.tar; found a member called '../x'. "
        "Nothing of it was read. If it can be trusted, pack it again.",
        "ingest: expected at most 2 members in b.tar; found more. "
        "Nothing of it was read. If it can be trusted, pack it again, or raise limits.members.",
    ]


BAD_TEXTS = {
    "d/pos/1.txt": b"good",
    "d/pos/2.txt": b"caf\xe9",
    "d/pos/three.txt": b"no number",
    "d/unsup/4.txt": b"no label",
    "d/neg/5.txt": b"x" * 101,
    "d/neg/6.txt": b"",
    "d/neg/7.txt": b"\xef\xbb\xbfmarked",
}


@pytest.mark.parametrize("form", ["directory", "a.tar.gz", "a.zip"])
def test_texts_for_quarantine(tmp_path: Path, form: str) -> None:
    archive = {"a.tar.gz": PACK[".gz"](tar(*BAD_TEXTS.items())), "a.zip": zipped(*BAD_TEXTS.items())}
    write(tmp_path, BAD_TEXTS if form == "directory" else {form: archive[form]})
    config = texts(limits={"member_bytes": 100})
    rows = read(config, source_of(config).find(str(tmp_path)), TEXTS)
    assert count(rows) == {"good": 3, "wrong_encoding": 1, "path_not_matched": 2, "member_too_large": 1}
    assert {row["text"] for row in rows if row["_rule"] is None} == {"good", "", "marked"}
    wrong = next(row for row in rows if row["_rule"] == "wrong_encoding")
    assert (wrong["_reason"], wrong["_record"]) == ("bytes that are no utf-8, at 3", "caf\\xe9")
    large = next(row for row in rows if row["_rule"] == "member_too_large")
    assert large["_reason"].endswith("bytes, where a file has at most 100")
    assert large["_record"].endswith("/d/neg/5.txt")


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = b"d/caf\xe9/pos/1.txt".decode("utf-8", "surrogateescape")
    write(tmp_path, {"a.tar": tar((name, b"x"), form=tarfile.GNU_FORMAT)})
    (row,) = read(texts(), [str(tmp_path / "a.tar")], TEXTS)
    assert (row["_rule"], row["_source_file"]) == ("path_not_matched", f"{tmp_path}/a.tar!/d/caf\\udce9/pos/1.txt")


def test_names_in_zips_that_do_not_say_that_they_are_utf8(tmp_path: Path) -> None:
    """UTF-8 all the same, as macOS writes them, is taken for it. (zipfile reads each byte as a letter of code page 437.)"""
    names = ["d/caf\xe9/pos/1.txt".encode(), "d/正面/pos/2.txt".encode("gbk")]
    whole = zipped(*[(f"{'x' * len(name)}", b"good") for name in names])
    for name in names:
        whole = whole.replace(b"x" * len(name), name)
    write(tmp_path, {"a.zip": whole})
    first, second = read(texts(), [str(tmp_path / "a.zip")], TEXTS)
    assert (first["_rule"], first["_source_file"]) == (None, f"{tmp_path}/a.zip!/d/caf\xe9/pos/1.txt")
    assert (second["_rule"], second["text"]) == ("path_not_matched", None)


def test_names_that_begin_with_a_dot(tmp_path: Path) -> None:
    """As `tar cf a.tar ./d` writes them: no files in the making."""
    write(tmp_path, {"a.tar": tar(*[(f"./{name}", content) for name, content in GOOD])})
    rows = read(texts(), [str(tmp_path / "a.tar")], TEXTS)
    assert count(rows) == {"good": 2}
    assert rows[0]["_source_file"] == f"{tmp_path}/a.tar!/d/pos/1.txt"


def test_other_encodings_and_bytes(tmp_path: Path) -> None:
    write(tmp_path, {"pos/1.txt": "水".encode("gb18030"), "neg/2.txt": b"\x00\xff"})
    paths = list_files(str(tmp_path), (".txt",))
    rows = read(texts(encoding="gb18030"), paths, TEXTS)
    assert [row["text"] for row in rows if row["_rule"] is None] == ["水"]
    assert count(rows) == {"good": 1, "wrong_encoding": 1}
    binary = make_contract({"label": {"type": "string"}, "index": {"type": "int"}, "text": {"type": "binary"}})
    assert [row["text"] for row in read(texts(), paths, binary)] == [b"\x00\xff", "水".encode("gb18030")]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"label": {"type": "string"}, "text": {"type": "string"}}, "no index"),
        ({**{name: {"type": "string"} for name in ("label", "index", "text")}, "stars": {"type": "int"}}, "stars too"),
    ],
)
def test_the_contract_has_the_patterns_columns(tmp_path: Path, columns: Mapping[str, Any], found: str) -> None:
    write(tmp_path, {"pos/1.txt": b""})
    with pytest.raises(ContractError) as caught:
        read(texts(), [str(tmp_path / "pos/1.txt")], make_contract(columns))
    assert str(caught.value) == (
        f"ingest: expected columns among label, index, text in tiny_raw, with label, index, text; found {found}. "
        "Mend the contract, or the source's pattern and content."
    )


def test_units_of_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.sources.members._UNIT_BYTES", 25)
    monkeypatch.setattr("millrace.sources.members._UNIT_FILES", 3)
    write(tmp_path, {f"pos/{n}.txt": b"x" * size for n, size in enumerate([10, 10, 10, 1, 1, 1, 1])})
    write(tmp_path, {"a.zip": zipped(*GOOD)})
    source = source_of(texts())
    paths = source.find(str(tmp_path))
    units = source.reader.units(paths)  # type: ignore[attr-defined]
    assert [len(unit) for unit in units] == [1, 3, 3, 1]
    assert sorted(path for unit in units for path in unit) == paths
    assert count(read(texts(), paths, TEXTS)) == {"good": 9}


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A member of 200 MB that packs to nothing, and a header that claims 2 GB: neither is held."""
    header = tarfile.TarInfo("d/pos/1.txt")
    header.size = 200 * 1024**2
    data = io.BytesIO()
    import gzip

    with gzip.open(data, "wb", 1) as packed:
        packed.write(header.tobuf())
        for _ in range(200):
            packed.write(bytes(1024**2))
        packed.write(bytes(1024))
    write(tmp_path, {"a.tar.gz": data.getvalue()})
    huge = header.create_pax_global_header({"comment": "x"})
    claimed = tarfile.TarInfo.frombuf(huge[:512], "utf-8", "strict")
    claimed.size = 2 * 1024**3
    write(tmp_path, {"b.tar": claimed.tobuf() + bytes(10_000)})
    tracemalloc.start()
    try:
        rows = read(texts(limits={"member_bytes": 1024}), [str(tmp_path / "a.tar.gz")], TEXTS)
        with pytest.raises(SourceError) as caught:
            read(texts(), [str(tmp_path / "b.tar")], TEXTS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count(rows) == {"member_too_large": 1}
    assert "damaged (a header of 2,147,483,648 bytes)" in str(caught.value)
    assert peak < 30 * 1024**2


# --- pictures -----------------------------------------------------------------------------------------------------------


def animated() -> bytes:
    data = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(data, "PNG", save_all=True, append_images=frames[1:])
    return data.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.new("RGB", (60, 40), "black")
    picture.paste("white", (0, 0, 30, 20))  # the upper left quarter
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=95, exif=exif)
    return data.getvalue()


WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)
PICTURES: dict[str, tuple[bytes, str | None, tuple[int, int, int] | None]] = {
    "rgb.png": (png(12, 8, color=RED), None, RED),
    "grey.png": (png(12, 8, "L", color=77), None, (77, 77, 77)),
    "deep.png": (png(12, 8, "I;16", color=0xABCD), None, (0xAB, 0xAB, 0xAB)),
    "bits.png": (png(12, 8, "1", color=1), None, WHITE),
    "palette.png": (png(12, 8, "P", color=0), None, BLACK),
    "clear.png": (png(12, 8, "RGBA", color=(9, 9, 9, 0)), None, WHITE),
    "half.png": (png(12, 8, "LA", color=(0, 128)), None, (127, 127, 127)),
    "cmyk.jpg": (png(12, 8, "CMYK", color=(0, 0, 0, 0), form="JPEG"), None, WHITE),
    "thin.jpg": (png(1, 900, color=RED, form="JPEG", quality=100, subsampling=0), None, (254, 0, 0)),
    "text.png": (b"not a picture", "not_an_image", None),
    "gif.png": (png(12, 8, form="GIF"), "not_an_image", None),
    "empty.jpg": (b"", "not_an_image", None),
    "cut.png": (png(64, 64, "RGB", color=RED)[:60], "corrupt_image", None),
    "cut.jpg": (png(64, 64, color=RED, form="JPEG")[:-40], "corrupt_image", None),
    "none.png": (png_header(0, 5), "corrupt_image", None),
    "bomb.png": (png_header(60_000, 60_000), "image_too_large", None),
    "large.png": (png_header(9_000, 9_000), "image_too_large", None),
    "moves.png": (animated(), "animated_image", None),
}


def test_pictures(tmp_path: Path) -> None:
    members = [(f"shirt/{name}", content) for name, (content, _, _) in PICTURES.items()]
    write(tmp_path, {"a.tar": tar(*members)})
    rows = read(images(), [str(tmp_path / "a.tar")], IMAGES)
    assert len(rows) == len(PICTURES)
    for row, (name, (_, rule, color)) in zip(rows, PICTURES.items(), strict=True):
        assert row["_rule"] == rule, (name, row["_reason"])
        assert row["image"] == (None if color is None else bytes(color) * 24), name
    reasons = {row["_record"].rpartition("/")[2]: row["_reason"] for row in rows if row["_rule"]}
    assert reasons["text.png"] == "neither JPEG nor PNG, by its first bytes"
    assert reasons["large.png"] == "9000 x 9000 pixels, where at most 64,000,000 are read"
    assert reasons["bomb.png"] == "more pixels than 64,000,000"
    assert reasons["moves.png"] == "2 pictures in one"


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 0)), (5, (0, 0)), (6, (0, 1)), (7, (1, 1)), (8, (1, 0))],
)
def test_a_camera_that_was_turned(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    """The white quarter comes to where it was seen (Exif 2.3): `corner` is its (row, column)."""
    write(tmp_path, {"shirt/a.jpg": turned(orientation)})
    contract = make_contract(
        {"label": {"type": "string"}, "image": {"type": "binary", "tensor": {"dtype": "uint8", "shape": [2, 2, 1]}}}
    )
    (row,) = read(images(), [str(tmp_path / "shirt/a.jpg")], contract)
    bright = [number == max(row["image"]) for number in row["image"]]
    assert bright == [(line, column) == corner for line in (0, 1) for column in (0, 1)]


def test_resizing(tmp_path: Path) -> None:
    """A picture of 40 x 20, whose outer quarters are black: what each way to make a square of it keeps."""
    picture = Image.new("L", (40, 20))
    picture.paste(255, (10, 0, 30, 20))
    picture.save(tmp_path / "a.png")
    (tmp_path / "shirt").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "shirt/a.png")
    contract = make_contract(
        {"label": {"type": "string"}, "image": {"type": "binary", "tensor": {"dtype": "uint8", "shape": [4, 4, 1]}}}
    )
    found = {}
    for way in ("squash", "crop", "pad"):
        (row,) = read(images(resize=way), [str(tmp_path / "shirt/a.png")], contract)
        found[way] = [[number > 127 for number in row["image"][line * 4 : line * 4 + 4]] for line in range(4)]
    middle = [False, True, True, False]
    assert found == {"squash": [middle] * 4, "crop": [[True] * 4] * 4, "pad": [[False] * 4, middle, middle, [False] * 4]}


def test_the_tensor_is_a_pictures(tmp_path: Path) -> None:
    write(tmp_path, {"shirt/a.png": png(2, 2)})
    wrong = {"label": {"type": "string"}, "image": {"type": "binary", "tensor": {"dtype": "float32", "shape": [4, 4, 2]}}}
    with pytest.raises(ContractError) as caught:
        read(images(), [str(tmp_path / "shirt/a.png")], make_contract(wrong))
    assert str(caught.value) == (
        "ingest: expected tiny_raw.image to be a uint8 tensor (height, width, 1 or 3); found float32 (4, 4, 2). "
        "Mend the contract: pictures are resized to its tensor's shape, 1 is grey and 3 is RGB."
    )
