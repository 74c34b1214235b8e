"""Taking the layers of containers apart as they pass: in bounded pieces, and only so far as an honest layer grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from isal import isal_zlib

from tintype.domain.errors import DecompressionBombError, MalformedImageError, TruncatedError
from tintype.inspect.compression.decoders import pieces_of, zstd_decoder

MAX_RATIO = 200
"""How many times as large as the bytes that came what they stand for may be; text compresses by 3 to 20."""
FREE_SIZE = 64 * 1024 * 1024
"""Bytes up to which the ratio does not matter, of all layers together: a small disk of zeros is no bomb."""
MAX_WINDOW_SIZE = 32 * 1024 * 1024
"""Bytes of memory that a zstd frame may ask for: four times what ``zstd -19`` does."""
MAX_STREAMS = 1 << 20
"""A seekable file (eStargz, zstd:chunked) has a gzip member, or a zstd frame, for each file in it."""

_SLICE_SIZE = 64 * 1024
_PIECE_SIZE = 256 * 1024

Sink = Callable[[memoryview], None]


class Compression(StrEnum):
    """How a layer is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


def layer_compression_of(head: bytes) -> Compression:
    """By the magic in the first four bytes (RFC 1952, 2.3.1; RFC 8878, 3.1.1 and, for a skippable frame, 3.1.2)."""
    if head.startswith(b"\x1f\x8b\x08"):
        return Compression.GZIP
    is_skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    return Compression.ZSTD if head.startswith(b"\x28\xb5\x2f\xfd") or is_skippable else Compression.NONE


class Decompression(Protocol):
    """Bytes go in by ``feed``; what they stand for goes to the sink that it was made with, piece by piece."""

    @property
    def produced(self) -> int:
        """How many bytes the sink has got."""

    def feed(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises:
            MalformedImageError: they are not so compressed.
            DecompressionBombError: they grow too much.
        """

    def finish(self) -> None:
        """Take note that all bytes have come.

        Raises:
            TruncatedError: they end too early.
        """


@dataclass(slots=True)
class Growth:
    """How far all layers of an image may grow together, and have: in bytes.

    The ratio is that of all of them, so that a thousand small bombs are one.
    """

    max_size: int
    consumed: int = 0
    produced: int = 0

    def add(self, size: int) -> None:
        """Count what came out.

        Raises:
            DecompressionBombError: it is too much.
        """
        self.produced += size
        if self.produced > self.max_size:
            raise DecompressionBombError(f"the layers grow to more than {self.max_size} bytes")
        if self.produced > max(FREE_SIZE, MAX_RATIO * self.consumed):
            raise DecompressionBombError(f"the layers grow to more than {MAX_RATIO} times their size")


def decompression(kind: Compression, sink: Sink, growth: Growth) -> Decompression:
    """Take bytes of that kind apart into ``sink``, which must not keep what it gets; as far as ``growth`` allows."""
    meter = _Meter(sink, growth)
    match kind:
        case Compression.GZIP:
            return _Gzip(meter)
        case Compression.ZSTD:
            return _Zstd(meter)
        case Compression.NONE:
            return _Plain(meter)


class _Meter:
    """Counts what goes in and what comes out, and stops what grows too much."""

    def __init__(self, sink: Sink, growth: Growth) -> None:
        self._sink = sink
        self._growth = growth
        self.produced = 0

    def take(self, size: int) -> None:
        """Count what goes in."""
        self._growth.consumed += size

    def write(self, piece: bytes | memoryview) -> None:
        """Pass on what came out."""
        self.produced += len(piece)
        self._growth.add(len(piece))
        self._sink(memoryview(piece))


class _Plain:
    def __init__(self, meter: _Meter) -> None:
        self._meter = meter

    @property
    def produced(self) -> int:
        return self._meter.produced

    def feed(self, data: memoryview) -> None:
        self._meter.take(len(data))
        self._meter.write(data)

    def finish(self) -> None:
        """Nothing can be missing."""


class _Gzip:
    """One gzip member after the other (RFC 1952, 2.2), and zeros behind the last, as tapes have them."""

    def __init__(self, meter: _Meter) -> None:
        self._meter = meter
        self._member = isal_zlib.decompressobj(31)
        self._members = 1
        self._is_between = False

    @property
    def produced(self) -> int:
        return self._meter.produced

    def feed(self, data: memoryview) -> None:
        for begin in range(0, len(data), _SLICE_SIZE):
            piece = bytes(data[begin : begin + _SLICE_SIZE])
            self._meter.take(len(piece))
            while piece:
                piece = self._feed_member(piece)

    def finish(self) -> None:
        if not self._is_between:
            raise TruncatedError("the gzip file ends within its data")

    def _feed_member(self, data: bytes) -> bytes:
        """Take a slice, as far as the member goes; what is behind it."""
        if self._is_between:
            data = data.lstrip(b"\0")
            if not data:
                return data
            self._begin_member()
        while True:
            try:
                piece = self._member.decompress(data, _PIECE_SIZE)
            except isal_zlib.error as exc:  # type: ignore[misc]  # the stub says that it is an instance
                raise MalformedImageError(f"the gzip file cannot be read: {exc}") from exc
            self._meter.write(piece)
            if self._member.eof:
                self._is_between = True
                return bytes(self._member.unused_data)
            data = self._member.unconsumed_tail
            if not data and len(piece) < _PIECE_SIZE:
                return b""

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > MAX_STREAMS:
            raise DecompressionBombError(f"the gzip file has more than {MAX_STREAMS} members")
        self._member = isal_zlib.decompressobj(31)
        self._is_between = False


class _Zstd:
    """One zstd frame after the other; whether the last is whole is for what is inside to tell."""

    def __init__(self, meter: _Meter) -> None:
        self._meter = meter
        self._frame = zstd_decoder(MAX_WINDOW_SIZE)
        self._frames = 1

    @property
    def produced(self) -> int:
        return self._meter.produced

    def feed(self, data: memoryview) -> None:
        for begin in range(0, len(data), _SLICE_SIZE):
            piece = bytes(data[begin : begin + _SLICE_SIZE])
            self._meter.take(len(piece))
            while piece:
                piece = self._feed_frame(piece)

    def finish(self) -> None:
        """Nothing that could be asked of the library."""

    def _feed_frame(self, data: bytes) -> bytes:
        """Take a slice, as far as the frame goes; what is behind it."""
        if self._frame.eof:
            self._frames += 1
            if self._frames > MAX_STREAMS:
                raise DecompressionBombError(f"the zstd file has more than {MAX_STREAMS} frames")
            self._frame = zstd_decoder(MAX_WINDOW_SIZE)
        for piece in pieces_of(self._frame, data):
            self._meter.write(piece)
        return self._frame.unused_data if self._frame.eof else b""
