"""HTTP responses as web archives hold them (RFC 9112): status, headers, and the body as its author wrote it, within a cap.

Crawlers often store a body that they have unpacked already, with headers that say otherwise. So a body that is not chunked at
its very beginning is taken as it is, and so is one that does not begin as gzip or zlib does.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import zstandard

from millrace.config.encodings import is_text_encoding
from millrace.sources.encodings import has_marks
from millrace.sources.members import ContentError

RULES = ("broken_http", "broken_payload", "payload_too_large", "wrong_encoding")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?:[ \t][^\n]*)?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_MAX_CODINGS = 3
_MAX_MEMBERS = 100


@dataclass(frozen=True)
class Response:
    """`headers` by name in lower case; `body` without transfer and content coding."""

    status: str
    headers: Mapping[str, str]
    body: bytes


def parse_response(block: bytes, cap: int) -> Response:
    """A response from its bytes. Raises ContentError where it is none, is damaged, or unpacks to more than `cap` bytes."""
    first = _STATUS.match(block)
    if first is None:
        raise ContentError("broken_http", "it does not begin with an HTTP status line")
    end = _END.search(block, first.end() - 2)
    head = block[first.end() : end.start() if end else len(block)]
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "backslashreplace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    body = block[end.end() :] if end else b""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _unchunk(body)
    codings = [coding.strip().lower() for coding in headers.get("content-encoding", "").split(",") if coding.strip()]
    if len(codings) > _MAX_CODINGS:
        raise ContentError("broken_payload", f"{len(codings)} content codings, one in another")
    for coding in reversed(codings):
        body = _unpack(body, coding, cap)
    if len(body) > cap:
        raise ContentError("payload_too_large", f"more than {cap:,} bytes")
    return Response(first.group(1).decode(), headers, body)


def text_of(body: bytes, content_type: str | None) -> str:
    """The text of a body: by the charset of its Content-Type, else of its <meta>, else UTF-8. Raises ContentError."""
    named = _CHARSET.search(content_type or "")
    in_page = _META.search(body[:4096])
    charset = named.group(1) if named else in_page.group(1).decode() if in_page else "utf-8"
    for each in filter(is_text_encoding, dict.fromkeys((charset.lower(), "utf-8"))):  # as browsers do where a charset is none
        try:
            text = body.decode({"iso-8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}.get(each, each))
        except UnicodeError:
            continue
        if not has_marks(text):
            return text
    raise ContentError("wrong_encoding", f"bytes that are neither {charset} nor UTF-8", body)


def _unchunk(body: bytes) -> bytes:
    if _CHUNK.match(body) is None:
        return body  # unchunked by the crawler
    parts: list[bytes] = []
    at = 0
    while True:
        size = _CHUNK.match(body, at)
        if size is None:
            raise ContentError("broken_payload", "a chunk that does not begin with its size")
        length, start = int(size.group(1), 16), size.end()
        if length == 0:
            return b"".join(parts)
        if start + length > len(body):
            raise ContentError("broken_payload", "it ends within a chunk")
        parts.append(body[start : start + length])
        end = re.compile(rb"\r?\n").match(body, start + length)
        if end is None:
            raise ContentError("broken_payload", "a chunk of another size than it says")
        at = end.end()


def _unpack(body: bytes, coding: str, cap: int) -> bytes:
    if coding in ("identity", "none", "") or not body:
        return body
    if coding in ("gzip", "x-gzip"):
        return _inflate(body, 31, cap) if body[:2] == b"\x1f\x8b" else body
    if coding == "deflate":
        is_zlib = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
        return _inflate(body, 15 if is_zlib else -15, cap)
    if coding == "zstd":
        return _unzstd(body, cap) if body[:4] == b"\x28\xb5\x2f\xfd" else body
    raise ContentError("broken_payload", f"the content coding {coding[:40]!r}, which is not read")


def _inflate(body: bytes, window: int, cap: int) -> bytes:
    plain, left = b"", body
    for _ in range(_MAX_MEMBERS):
        decoder = zlib.decompressobj(window)
        try:
            plain += decoder.decompress(left, cap + 1 - len(plain))
        except zlib.error as error:
            raise ContentError("broken_payload", str(error)) from None
        if len(plain) > cap:
            raise ContentError("payload_too_large", f"it unpacks to more than {cap:,} bytes")
        if not decoder.eof:
            raise ContentError("broken_payload", "it ends within its compressed data")
        left = decoder.unused_data
        if left[:2] != b"\x1f\x8b":  # gzip may come in members; what else follows is passed over, as browsers do
            return plain
    raise ContentError("broken_payload", f"more than {_MAX_MEMBERS} members of gzip")


def _unzstd(body: bytes, cap: int) -> bytes:
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(body) as reader:  # RFC 9659: 8 MiB
            plain: bytes = reader.read(cap + 1)
    except zstandard.ZstdError as error:
        raise ContentError("broken_payload", str(error)) from None
    if len(plain) > cap:
        raise ContentError("payload_too_large", f"it unpacks to more than {cap:,} bytes")
    return plain
