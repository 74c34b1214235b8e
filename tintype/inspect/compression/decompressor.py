"""Decompressing a stream as it comes, in pieces of bounded size, with a bound on what may come out in all.

How much may come out is bounded twice. The size cap is the site's: an image has no more bytes than it takes. The ratio
holds those who would make the site work for what they did not send. Disk images are full of zeros, so it has to be
wide. Measured on zeros alone: gzip and zip 1,030 to 1, xz 6,900, zstd 32,700, bz2 1,340,000. With :data:`MAX_RATIO` of
40,000, on top of :data:`FREE_SIZE` for what is small anyway, all but bz2 never meet the bound, however empty the disk;
in bz2, 20 GiB pass with half a MiB of anything else in them. And for each TiB of work and of (sparse) disk somebody has
to send over 25 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from tintype.domain.errors import ArchiveContentError, DecompressionBombError, MalformedImageError, TruncatedError
from tintype.inspect.compression.decoders import Decoder, bz2_decoder, gzip_decoder, pieces_of, xz_decoder, zstd_decoder
from tintype.inspect.compression.zip_stream import ZipEntry

SNIFF_SIZE = 16
"""Bytes by which the kind of compression is told, where the file has so many."""

MAX_RATIO = 40_000
FREE_SIZE = 1024**3
"""Bytes that may come out whatever has come in."""

FREE_MEMBERS = 1024
LEAST_MEMBER_SIZE = 64
"""Bytes that each of more than :data:`FREE_MEMBERS` streams in one file has to have, on average: to begin one costs as
much as to decompress some kilobytes, and an empty one of zstd has 9 bytes."""

_TAR_BLOCK_SIZE = 512
_FIRST_SLICE, _LARGEST_SLICE = 256, 64 * 1024


class Engine(Protocol):
    """A kind of compressed file."""

    def decode(self, data: memoryview) -> Iterator[bytes]:
        """Take bytes, and give what comes out of them, in pieces as :func:`~tintype.inspect.decoders.pieces_of` has."""

    def end(self) -> None:
        """Check that the file is complete.

        Raises:
            RefusedContentError: it is not, or contradicts itself.
        """


class _Members:
    """One or more compressed streams, one behind the other, as parallel compressors write them."""

    def __init__(self, make_decoder: Callable[[], Decoder], *, padding: bytes = b"") -> None:
        """``padding`` is a byte that may fill the space behind a stream, in fours."""
        self._make_decoder = make_decoder
        self._padding = padding
        self._padded = 0
        self._decoder = make_decoder()
        self._is_begun = False
        self._slice_size = _FIRST_SLICE
        self._members = 0
        self._received_size = 0

    def decode(self, data: memoryview) -> Iterator[bytes]:
        position = 0
        while position < len(data):
            # What a decoder leaves over is copied: small slices behind the end of a member keep a file of a million
            # empty members from being copied a million times.
            part = bytes(data[position : position + self._slice_size])
            position += len(part)
            part = self._without_padding(part)
            if not part:
                continue
            self._is_begun = True
            yield from pieces_of(self._decoder, part)
            self._slice_size = min(2 * self._slice_size, _LARGEST_SLICE)
            if self._decoder.eof:
                position -= len(self._decoder.unused_data)
                self._count_member(self._received_size + position)
                self._decoder, self._is_begun, self._slice_size = self._make_decoder(), False, _FIRST_SLICE
                self._padded = 0
        self._received_size += len(data)

    def end(self) -> None:
        if self._is_begun:
            raise TruncatedError("the compressed bytes end in the middle: the file is not complete")
        self._require_whole_padding()

    def _count_member(self, received_size: int) -> None:
        self._members += 1
        if self._members > FREE_MEMBERS and received_size < self._members * LEAST_MEMBER_SIZE:
            raise DecompressionBombError(f"{received_size} compressed bytes consist of {self._members} streams")

    def _without_padding(self, part: bytes) -> bytes:
        if self._is_begun or not self._padding:
            return part
        rest = part.lstrip(self._padding)
        self._padded += len(part) - len(rest)
        if rest:
            self._require_whole_padding()
        return rest

    def _require_whole_padding(self) -> None:
        if self._padded % 4:  # "The .xz File Format" 1.1.0, section 2.2
            raise MalformedImageError("the padding behind the compressed bytes is not a multiple of four bytes")


_ENGINES: Mapping[str, Callable[[], Engine]] = {
    "gzip": lambda: _Members(gzip_decoder),
    "xz": lambda: _Members(xz_decoder, padding=b"\0"),
    "zstd": lambda: _Members(zstd_decoder),
    "bz2": lambda: _Members(bz2_decoder),
    "zip": ZipEntry,
}


class Decompressor:
    """Decompresses one file of one of :data:`~tintype.inspect.compression.DECOMPRESSIBLE`. Not reusable."""

    def __init__(self, kind: str, *, max_size: int, max_ratio: int = MAX_RATIO, free_size: int = FREE_SIZE) -> None:
        """``max_size`` bytes may come out, and ``max_ratio`` times of what came in beyond ``free_size``.

        Raises:
            KeyError: there is no such kind.
        """
        self._kind = kind
        self._engine = _ENGINES[kind]()
        self._max_size = max_size
        self._max_ratio = max_ratio
        self._free_size = free_size
        self._head = b""
        self.received_size = 0
        self.size = 0
        """Bytes that came out."""

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Take the next bytes, and give what comes out; exhaust it before the next call.

        Raises:
            RefusedContentError: a subclass that says what is wrong with them.
        """
        view = memoryview(data).cast("B")
        self.received_size += len(view)
        for piece in self._engine.decode(view):
            self.size += len(piece)
            self._require_bounded()
            self._look_into(piece)
            yield piece

    def finish(self) -> None:
        """Check that the file is complete.

        Raises:
            TruncatedError: it ends early.
            MalformedImageError, ArchiveContentError: it contradicts itself, or more follows.
        """
        self._engine.end()

    def _require_bounded(self) -> None:
        if self.size > self._max_size:
            raise DecompressionBombError(f"the {self._kind} file holds more than the {self._max_size} bytes allowed")
        if self.size > self._free_size + self._max_ratio * self.received_size:
            raise DecompressionBombError(
                f"{self.received_size} bytes of {self._kind} grow to over {self.size} bytes; "
                f"this site takes up to {self._max_ratio} to 1"
            )

    def _look_into(self, piece: bytes) -> None:
        if len(self._head) == _TAR_BLOCK_SIZE:
            return
        self._head += piece[: _TAR_BLOCK_SIZE - len(self._head)]
        if len(self._head) == _TAR_BLOCK_SIZE and is_tar(self._head):
            raise ArchiveContentError(f"the {self._kind} file holds a tar archive; it must hold exactly one image")


def is_tar(block: bytes) -> bool:
    """Whether the first 512 bytes are the header of a tar's first member: its checksum is right (POSIX.1, ustar)."""
    stated = block[148:156].strip(b" \0")
    if not stated or stated.strip(b"01234567"):
        return False
    return int(stated, 8) == sum(block[:148]) + 8 * ord(" ") + sum(block[156:512])
