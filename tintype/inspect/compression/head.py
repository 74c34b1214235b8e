"""The first bytes of what was compressed, to see what it is: bounded in what is read, written and remembered.

Which program compressed it is told by :mod:`tintype.inspect.compression.kinds`; whole streams are taken apart
elsewhere.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib

import zstandard

from tintype.domain.errors import MalformedImageError

MAX_OUTPUT = 72 * 1024
"""Enough for the magic that lies furthest behind the beginning: btrfs's superblock ends at 68 KiB."""

_GZIP_WINDOW_BITS = 31
_MAX_MEMORY = 192 << 20
"""Enough for a dictionary of 128 MiB, the largest that a kernel takes; memory that is not written to costs nothing."""
_MAX_ZSTD_WINDOW = 128 << 20


def first_bytes(compression: str, head: bytes) -> bytes | None:
    """Up to :data:`MAX_OUTPUT` bytes of what ``head`` was before; ``None`` where nothing can be said.

    That is so for kinds that no library here reads (lz4, lzop), and for a block that does not end within the head.

    Raises:
        MalformedImageError: it is no stream of that kind, or is damaged.
    """
    try:
        return _decompress(compression, head) or None
    except (zlib.error, OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as exc:
        raise MalformedImageError(f"the {compression} stream is damaged, or needs more memory than it may") from exc


def _decompress(compression: str, head: bytes) -> bytes:
    match compression:
        case "gzip":
            return zlib.decompressobj(_GZIP_WINDOW_BITS).decompress(head, MAX_OUTPUT)
        case "bz2":
            return bz2.BZ2Decompressor().decompress(head, MAX_OUTPUT)
        case "xz":
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_MEMORY).decompress(head, MAX_OUTPUT)
        case "lzma":
            return lzma.LZMADecompressor(lzma.FORMAT_ALONE, _MAX_MEMORY).decompress(head, MAX_OUTPUT)
        case "zstd":
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
            with decompressor.stream_reader(io.BytesIO(head), read_across_frames=True) as reader:
                return reader.read(MAX_OUTPUT)
        case _:
            return b""
