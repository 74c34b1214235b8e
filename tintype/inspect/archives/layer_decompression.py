"""Taking the layers of containers apart as they pass: in bounded pieces, and only so far as an honest layer grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

from tintype.domain.errors import DecompressionBombError, TruncatedError
from tintype.inspect.compression.decoders import Decoder, gzip_decoder, pieces_of, zstd_decoder

MAX_RATIO = 200
"""How many times as large as the bytes that came what they stand for may be; text compresses by 3 to 20."""
FREE_SIZE = 64 * 1024 * 1024
"""Bytes up to which the ratio does not matter, of all layers together: a small disk of zeros is no bomb."""
MAX_WINDOW_SIZE = 32 * 1024 * 1024
"""Bytes of memory that a zstd frame may ask for: four times what ``zstd -19`` does."""
MAX_STREAMS = 1 << 20
"""Layers that can be read in any order (eStargz, zstd:chunked) have a stream for each file in them."""

_SLICE_SIZE = 64 * 1024

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
            UnsupportedImageError: to decompress them takes too much memory.
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
            # Zeros follow the last member where a tape was padded.
            return _Streams(meter, gzip_decoder, padding=b"\0")
        case Compression.ZSTD:
            return _Streams(meter, partial(zstd_decoder, MAX_WINDOW_SIZE))
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


class _Streams:
    """One compressed stream after the other: gzip members (RFC 1952, 2.2), or zstd frames (RFC 8878, 3)."""

    def __init__(self, meter: _Meter, make_decoder: Callable[[], Decoder], *, padding: bytes = b"") -> None:
        """``padding`` is a byte that may fill the space behind a stream."""
        self._meter = meter
        self._make_decoder = make_decoder
        self._padding = padding
        self._decoder = make_decoder()
        self._streams = 1
        self._is_between = False

    @property
    def produced(self) -> int:
        return self._meter.produced

    def feed(self, data: memoryview) -> None:
        for begin in range(0, len(data), _SLICE_SIZE):
            piece = bytes(data[begin : begin + _SLICE_SIZE])
            self._meter.take(len(piece))
            while piece:
                piece = self._feed_stream(piece)

    def finish(self) -> None:
        if not self._is_between:
            raise TruncatedError("the layer ends within its compressed data")

    def _feed_stream(self, data: bytes) -> bytes:
        """Take a slice, as far as the stream goes; what is behind it."""
        if self._is_between:
            data = data.lstrip(self._padding) if self._padding else data
            if not data:
                return data
            self._begin_stream()
        for piece in pieces_of(self._decoder, data):
            self._meter.write(piece)
        self._is_between = self._decoder.eof
        return self._decoder.unused_data

    def _begin_stream(self) -> None:
        self._streams += 1
        if self._streams > MAX_STREAMS:
            raise DecompressionBombError(f"a layer consists of more than {MAX_STREAMS} compressed streams")
        self._decoder = self._make_decoder()
        self._is_between = False
