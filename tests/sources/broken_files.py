"""Small archives, pictures and web archives, whole and broken in the ways that are met, and what reading them gives."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard
from PIL import Image

from millrace.config.sources import SourceConfig
from millrace.contracts.table import TableContract
from millrace.sources.read import FileSource, source_of

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstandard.ZstdCompressor().compress}


def tar(*members: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of (name, content), or of headers alone."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                header = tarfile.TarInfo(member[0])
                header.size = len(member[1])
                archive.addfile(header, io.BytesIO(member[1]))
    return data.getvalue()


def header(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A tar member without content: a link to `target`, a device, …"""
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of (name, content)."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def png(width: int, height: int, mode: str = "RGB", *, color: Any = None, form: str = "PNG", **options: Any) -> bytes:
    """A picture of one colour."""
    data = io.BytesIO()
    Image.new(mode, (width, height), color if color is not None else 0).save(data, form, **options)
    return data.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and has no pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def warc(
    block: bytes, *, kind: str = "response", length: int | str | None = -1, version: str = "WARC/1.0", more: str = ""
) -> bytes:
    """One record; `length` -1 is the block's own, None leaves it out."""
    own = len(block) if length == -1 else length
    lines = [version, f"WARC-Type: {kind}", "WARC-Target-URI: http://a/", "WARC-Date: 2026-11-22T00:00:00Z"]
    lines.append("Content-Type: application/http; msgtype=response" if kind == "response" else "Content-Type: text/plain")
    lines += [] if own is None else [f"Content-Length: {own}"]
    lines += [more] if more else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def page(body: bytes = b"<p>mill</p>", headers: str = "") -> bytes:
    """An HTTP response."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n{headers}\r\n".encode() + body


def read(config: SourceConfig, paths: Sequence[str], contract: TableContract) -> list[dict[str, Any]]:
    """All rows, read as a night reads them, but without Spark."""
    source = source_of(config)
    assert isinstance(source, FileSource)
    source.check(paths, contract)
    units = source.reader.units(paths)
    found = [batch for unit in units for batch in source.reader.read(unit, contract)]
    assert all(batch.schema == source.reader.arrow_schema(contract) for batch in found)
    rows = [row for batch in found for row in batch.to_pylist()]
    assert {row["_rule"] for row in rows} - {None} <= set(source.rules)
    assert all(row["_reason"] and row["_record"] is not None for row in rows if row["_rule"])
    return rows


def count(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Rows by the rule that they break; good ones as `good`."""
    return dict(Counter(row["_rule"] or "good" for row in rows))


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Writes files under a directory, as they are."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
