"""Decompressing one block of a disk: to its size, never more, and outside of the interpreter's lock."""

from __future__ import annotations

import threading

import zstandard
from isal import isal_zlib

from tintype.domain.errors import MalformedImageError

_RAW_DEFLATE, _ZLIB = -15, 15  # window_bits, as zlib has them

_MAX_ZSTD_WINDOW = 8 * 1024 * 1024
"""What every decoder should take (RFC 8878, section 3.1.1.1.2)."""

_UNKNOWN_SIZE = (1 << 64) - 1
_of_thread = threading.local()


def inflate(data: bytes | memoryview, size: int, what: str) -> bytes:
    """Decode a raw deflate stream that must hold ``size`` bytes; bytes behind its end are ignored.

    Raises:
        MalformedImageError: it holds fewer or more, or is damaged; ``what`` names it.
    """
    plain, _ = _inflated(data, size + 1, what, _RAW_DEFLATE)
    return _exactly(plain, size, what)


def inflate_whole(data: bytes, most: int, what: str) -> bytes:
    """Decode a zlib stream that must end, its checksum being right, and hold at most ``most`` bytes.

    Raises:
        MalformedImageError: it does not; ``what`` names it.
    """
    plain, is_whole = _inflated(data, most + 1, what, _ZLIB)
    if len(plain) > most:
        raise MalformedImageError(f"{what} holds more than {most} bytes")
    if not is_whole:
        raise MalformedImageError(f"{what} goes on beyond its end")
    return plain


def _inflated(data: bytes | memoryview, limit: int, what: str, window_bits: int) -> tuple[bytes, bool]:
    """Up to ``limit`` bytes of a stream, and whether it ended there."""
    inflater = isal_zlib.decompressobj(window_bits)
    try:
        return inflater.decompress(data, limit), inflater.eof
    except isal_zlib.error as exc:  # type: ignore[misc]  # isal's stub says that it is an instance
        raise MalformedImageError(f"{what} cannot be decompressed") from exc


def decompress_zstd(data: bytes | memoryview, size: int, what: str) -> bytes:
    """Decode a zstd frame that must hold ``size`` bytes; bytes behind its end are ignored.

    Raises:
        MalformedImageError: it holds fewer or more, or is damaged; ``what`` names it.
    """
    try:
        # The size that the frame claims would be allocated.
        claimed = zstandard.get_frame_parameters(data).content_size
        if claimed not in (size, _UNKNOWN_SIZE):
            raise MalformedImageError(f"{what} says that it holds {claimed} bytes, instead of {size}")
        plain = _zstd().decompress(data, max_output_size=size)
    except zstandard.ZstdError as exc:
        raise MalformedImageError(f"{what} cannot be decompressed") from exc
    return _exactly(plain, size, what)


def _zstd() -> zstandard.ZstdDecompressor:
    """One for each thread: it must not be shared, and is not cheap to make."""
    if not hasattr(_of_thread, "zstd"):
        _of_thread.zstd = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
    decompressor: zstandard.ZstdDecompressor = _of_thread.zstd
    return decompressor


def _exactly(plain: bytes, size: int, what: str) -> bytes:
    if len(plain) != size:
        held = f"more than {size}" if len(plain) > size else str(len(plain))
        raise MalformedImageError(f"{what} holds {held} bytes, instead of {size}")
    return plain
