"""Files come through their compression whole, or as one error."""

from __future__ import annotations

import bz2
import gzip
import io
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from millrace.errors import SourceError
from millrace.sources.opening import Limits, compression_of, open_raw, with_compressions

TEXT = b"".join(b"%d,%d\n" % (number, number**3) for number in range(20_000))
DAMAGED = "ingest: expected a whole file at FILE; found that it is damaged ({}). Fetch it again, then run the night again."
ENDED = DAMAGED.format("Compressed file ended before the end-of-stream marker was reached")


def zipped(*names: str, content: bytes = TEXT, how: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    """A zip of files with the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.mkdir("folder")
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = mode << 16, how
            archive.writestr(member, content)
    return buffer.getvalue()


def zst(content: bytes) -> bytes:
    """A zstd frame that does not say its size, as a stream's does not."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(content) + packer.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zst,
    ".zip": lambda content: zipped("a.csv", content=content),
}


def write(path: Path, content: bytes) -> str:
    """The file's path."""
    path.write_bytes(content)
    return str(path)


def message(path: str, limits: Limits | None = None) -> str:
    """Of the error that reading gives, with the path left out."""
    with pytest.raises(SourceError) as caught, open_raw(path, limits or Limits()) as stream:
        while stream.read(1 << 20):
            pass
    return str(caught.value).replace(path, "FILE")


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("content", [TEXT, b"", b"a", bytes(1_500_000)])
def test_whole_files(tmp_path: Path, compression: str, content: bytes) -> None:
    with open_raw(write(tmp_path / f"a.csv{compression}", PACK[compression](content))) as stream:
        assert stream.read() == content


@pytest.mark.parametrize("compression", [".gz", ".bz2", ".zst"])
def test_several_members_are_read_on(tmp_path: Path, compression: str) -> None:
    members = [TEXT, b"", b"b", TEXT * 3, b"c"]
    path = write(tmp_path / f"a{compression}", b"".join(map(PACK[compression], members)))
    with open_raw(path) as stream:
        assert stream.read() == b"".join(members)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.gz", b"", DAMAGED.format("it is empty")),
        ("a.bz2", b"", DAMAGED.format("it is empty")),
        ("a.zst", b"", DAMAGED.format("it is empty")),
        ("a.zip", b"", DAMAGED.format("File is not a zip file")),
        ("a.gz", gzip.compress(TEXT)[:-1], ENDED),
        ("a.gz", gzip.compress(TEXT)[:2000], ENDED),
        ("a.bz2", bz2.compress(TEXT)[:-1], ENDED),
        ("a.bz2", bz2.compress(TEXT)[:2000], ENDED),
        ("a.zst", zst(TEXT)[:-1], ENDED),
        ("a.zst", zst(TEXT)[:2000], ENDED),
        ("a.zip", zipped("a")[:-1], DAMAGED.format("File is not a zip file")),
        ("a.gz", b"1,2\n", DAMAGED.format("Not a gzipped file (b'1,')")),
        ("a.bz2", b"1,2\n3,4\n5,6\n", DAMAGED.format("Invalid data stream")),
        ("a.zst", b"1,2\n3,4\n5,6\n", DAMAGED.format("zstd decompressor error: Unknown frame descriptor")),
        ("a.gz", gzip.compress(TEXT) + b"garbage", DAMAGED.format("Not a gzipped file (b'ga')")),
        ("a.bz2", bz2.compress(TEXT) + b"garbage", DAMAGED.format("Invalid data stream")),
        ("a.zst", zst(TEXT) + b"garbage", DAMAGED.format("zstd decompressor error: Unknown frame descriptor")),
        (
            "a.gz",
            gzip.compress(b"a" * 99, mtime=0)[:-8] + bytes(8),
            DAMAGED.format("CRC check failed 0x0 != 0x750b58ee"),
        ),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    assert message(write(tmp_path / name, content)) == expected


def test_a_zip_whose_content_is_corrupt(tmp_path: Path) -> None:
    content = zipped("a", how=zipfile.ZIP_STORED).replace(b"19999,", b"19998,")
    assert message(write(tmp_path / "a.zip", content)) == DAMAGED.format("Bad CRC-32 for file 'a'")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (zipped(), "0"),
        (zipped("a", "b"), "2"),
        (zipped("a", mode=stat.S_IFLNK | 0o777), "a, which is a link or no file"),
        (zipped("a", how=zipfile.ZIP_LZMA), "a, which is not deflated but compressed in another way"),
        (zipped(*map(str, range(30_000)), content=b""), "a directory of 1,518,943 bytes"),
        (zipped("a", how=zipfile.ZIP_BZIP2), "a, which is not deflated but compressed in another way"),
    ],
)
def test_a_zip_without_one_plain_file(tmp_path: Path, content: bytes, found: str) -> None:
    expected = f"ingest: expected one plain file in FILE; found {found}. Unpack it, and give the path of what is in it."
    assert message(write(tmp_path / "a.zip", content)) == expected


@pytest.mark.parametrize("compression", [".gz", ".bz2", ".zst", ".zip"])
def test_a_bomb_is_stopped_in_little_memory(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / f"a{compression}", PACK[compression](bytes(60 * 1024**2)))
    tracemalloc.start()
    found = message(path, Limits(max_bytes=40 * 1024**2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == (
        "ingest: expected at most 41,943,040 bytes in FILE; found that it unpacks to more. "
        "If it is meant to be so large, unpack it first, or raise the source's max_bytes."
    )
    assert peak < 36 * 1024**2


def test_a_ratio_that_no_text_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.sources.opening._RATIO_FROM_BYTES", 1024**2)
    path = write(tmp_path / "a.bz2", bz2.compress(bytes(4 * 1024**2)))
    size = Path(path).stat().st_size
    with pytest.raises(SourceError) as caught, open_raw(path) as stream:
        stream.read()
    assert str(caught.value) == (
        f"ingest: expected {path} to unpack to at most 10,000 times its size; found 1,056,768 bytes from the first {size}. "
        "If it is meant to be so large, unpack it first, or raise the source's max_bytes."
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert message(str(tmp_path / "a.csv")) == (
        "ingest: expected to read FILE; found No such file or directory. Check its permissions."
    )


def test_names() -> None:
    assert with_compressions(".csv") == (".csv", ".csv.gz", ".csv.bz2", ".csv.zst", ".csv.zip")
    assert [compression_of(name) for name in ("a.csv", "a.csv.zst", "a.gz")] == [None, ".zst", ".gz"]
