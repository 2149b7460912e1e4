"""Files of several bz2 streams or zstd frames, one after the other, in bounded memory.

Python's own readers do not serve: BZ2File takes a broken second stream for the end, zstandard's reader a truncated frame.
"""

from __future__ import annotations

import bz2
import io
from collections.abc import Callable
from typing import IO, Any

import zstandard

_READ_BYTES = 64 * 1024
_ZST_WINDOW_BYTES = 128 * 1024**2
_READY_BYTES = 1024**2


class _Piece:
    """What bz2's and zstandard's decoders have in common."""

    _decoder: Any

    @property
    def eof(self) -> bool:
        return bool(self._decoder.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._decoder.unused_data)


class Bz2(_Piece):
    """A bz2 stream."""

    piece_bytes = _READ_BYTES

    def __init__(self) -> None:
        self._decoder = bz2.BZ2Decompressor()

    @property
    def needs_input(self) -> bool:
        return bool(self._decoder.needs_input)

    def unpack(self, data: bytes) -> bytes:
        return bytes(self._decoder.decompress(data, _READY_BYTES))


class Zst(_Piece):
    """A zstd frame."""

    needs_input = True
    piece_bytes = 512  # unpacks whole, and 4 bytes can stand for 128 KiB: 16 MiB

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=_ZST_WINDOW_BYTES).decompressobj()

    def unpack(self, data: bytes) -> bytes:
        return bytes(self._decoder.decompress(data))


class Members(io.RawIOBase):
    """What the members of a file unpack to. Raises EOFError for a truncated one, and the decoder's error for a corrupt one."""

    def __init__(self, file: IO[bytes], start: Callable[[], Bz2 | Zst]) -> None:
        super().__init__()
        self._file, self._start = file, start
        self._decoder: Bz2 | Zst | None = None
        self._read_ahead, self._at = b"", 0  # of the file: _read_ahead[_at:] is still to be unpacked
        self._ready, self._given = b"", 0  # unpacked: _ready[_given:] is still to be given

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while self._given == len(self._ready):
            if not self._unpack_more():
                return 0
        size = min(len(buffer), len(self._ready) - self._given)
        buffer[:size] = self._ready[self._given : self._given + size]
        self._given += size
        return size

    def _unpack_more(self) -> bool:
        if self._decoder is None:
            self._fill()
            if self._at == len(self._read_ahead):
                return False
            self._decoder = self._start()
        piece = b""
        if self._decoder.needs_input:
            self._fill()
            piece = self._read_ahead[self._at : self._at + self._decoder.piece_bytes]
            self._at += len(piece)
            if not piece:
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
        self._ready, self._given = self._decoder.unpack(piece), 0
        if self._decoder.eof:
            self._at -= len(self._decoder.unused_data)
            self._decoder = None
        return True

    def _fill(self) -> None:
        if self._at == len(self._read_ahead):
            self._read_ahead, self._at = self._file.read(_READ_BYTES), 0
