"""The decoders of single compressed streams, and how they are driven so that little comes out of them at once.

Each is as the standard library's are. What a file may consist of is the matter of
:mod:`tintype.inspect.compression.decompressor`.
"""

from __future__ import annotations

import bz2
import lzma
import sys
from collections.abc import Iterator
from typing import Protocol

from isal import igzip_lib

from tintype.domain.errors import MalformedImageError, RefusedContentError, UnsupportedImageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_SIZE = 1024 * 1024
"""The most bytes that come out at once."""

MAX_WINDOW_SIZE = 128 * 1024 * 1024
"""Memory that the compressed bytes may ask for; xz -9 needs 65 MiB, and zstd --ultra --long 128 MiB."""

_ISAL_ERROR: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stub has an instance
_DECODER_ERRORS = (OSError, EOFError, ValueError, lzma.LZMAError, zstd.ZstdError, _ISAL_ERROR)
"""What the libraries raise about bytes that are not theirs, or are damaged."""


class Decoder(Protocol):
    """One compressed stream, as the standard library's decompressors have it."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended, and its checksum was right."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out of what has come in."""

    @property
    def unused_data(self) -> bytes:
        """What came behind the end."""

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        """Take bytes, and give back at most so many."""


def gzip_decoder() -> Decoder:
    """For one member of a gzip file; the checksum is verified."""
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def deflate_decoder() -> Decoder:
    """For bare deflate, as in zip."""
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)


def xz_decoder() -> Decoder:
    """For one stream of an xz file; the checksum is verified."""
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW_SIZE)


def zstd_decoder(max_window_size: int = MAX_WINDOW_SIZE) -> Decoder:
    """For one frame of a zstd file; a checksum is verified where there is one. The window's bound is a power of two."""
    bits = max_window_size.bit_length() - 1
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: bits})


def bz2_decoder() -> Decoder:
    """For one stream of a bzip2 file; the checksum is verified."""
    return bz2.BZ2Decompressor()


def pieces_of(decoder: Decoder, data: bytes) -> Iterator[bytes]:
    """All that comes out of ``data``, in pieces of at most :data:`PIECE_SIZE`.

    Raises:
        MalformedImageError, UnsupportedImageError: the decoder refuses the bytes.
    """
    while True:
        try:
            piece = decoder.decompress(data, PIECE_SIZE)
        except _DECODER_ERRORS as exc:
            raise _refusal_of(exc) from exc
        if piece:
            yield piece
        if decoder.eof or decoder.needs_input or not (piece or data):
            return
        data = b""


def _refusal_of(error: Exception) -> RefusedContentError:
    if "emory" in str(error):  # "Memory usage limit was exceeded", "Frame requires too much memory for decoding"
        return UnsupportedImageError("to decompress it takes more memory than this site allows")
    return MalformedImageError("the compressed bytes are damaged, or other bytes follow them")
