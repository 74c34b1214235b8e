"""Compressed files that are to be refused, each with the error that must say so. Built by code, never kept as files."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from backports import zstd

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    DecompressionBombError,
    MalformedImageError,
    RefusedContentError,
    TruncatedError,
    UnsupportedImageError,
)

MAX_SIZE = 1 << 23
MAX_RATIO = 500
FREE_SIZE = 1 << 20
"""The bounds under which :func:`hostile_compressed` are to be decompressed: narrow, so that the bombs may be small."""

_MIB = 1 << 20
CONTENT = b"a disk, as good as any " * 5000

COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1}),
    "bz2": bz2.compress,
    "zip": lambda content: zipped(("disk.raw", content)),
}
"""A file of each kind."""

Row = tuple[str, str, type[RefusedContentError], Callable[[], bytes]]


@dataclass(frozen=True, slots=True)
class HostileCompressed:
    """Bytes of one ``kind``, and the error that must refuse them."""

    kind: str
    error: type[RefusedContentError]
    build: Callable[[], bytes]


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, is_stream: bool = False) -> bytes:
    """A zip archive; ``is_stream`` has its sizes behind the data, as programs write it that cannot seek."""
    target = _Pipe() if is_stream else io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return target.getvalue()


def hostile_compressed() -> Mapping[str, HostileCompressed]:
    """All of them, by name."""
    rows = [*_of_every_kind(), *_zips(), *_ambiguous_zips()]
    return {name: HostileCompressed(kind, error, build) for name, kind, error, build in rows}


def _of_every_kind() -> Iterator[Row]:
    for kind, compress in COMPRESSORS.items():
        yield from _of_kind(kind, compress)
    yield "gzip: wrong checksum", "gzip", MalformedImageError, lambda: _flipped(gzip.compress(CONTENT), -8)
    yield "gzip: wrong size", "gzip", MalformedImageError, lambda: _flipped(gzip.compress(CONTENT), -4)
    yield "gzip: second member cut", "gzip", TruncatedError, lambda: gzip.compress(b"x") + gzip.compress(CONTENT)[:-9]
    for kind in ("gzip", "xz", "zstd", "bz2"):
        yield f"{kind}: nothing but empty streams", kind, DecompressionBombError, partial(_empty_streams, kind)
    yield "xz: padding of three bytes", "xz", MalformedImageError, lambda: lzma.compress(CONTENT) + bytes(3)
    yield (
        "xz: padding in the middle",
        "xz",
        MalformedImageError,
        lambda: lzma.compress(b"x") + bytes(5) + lzma.compress(b"y"),
    )
    yield "xz: dictionary of 1 GiB", "xz", UnsupportedImageError, partial(_xz_of_dictionary, 1 << 30)
    yield "zstd: window of 2 GiB", "zstd", UnsupportedImageError, lambda: b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\0\0"


def _of_kind(kind: str, compress: Callable[[bytes], bytes]) -> Iterator[Row]:
    whole = compress(CONTENT)
    yield f"{kind}: nothing behind the magic", kind, TruncatedError, lambda: whole[:8]
    yield f"{kind}: ends in the middle", kind, TruncatedError, lambda: whole[: len(whole) // 2]
    yield f"{kind}: last byte missing", kind, TruncatedError, lambda: whole[:-1]
    yield f"{kind}: other bytes behind it", kind, MalformedImageError, lambda: whole + b"#!/bin/sh" * 9
    yield f"{kind}: damaged", kind, MalformedImageError, lambda: _spoiled(compress(hashlib.sha512(b"").digest() * 2))
    yield f"{kind}: bomb by ratio", kind, DecompressionBombError, lambda: compress(bytes(8 * _MIB))
    yield f"{kind}: bomb by size", kind, DecompressionBombError, lambda: compress(_mixed(9))
    yield f"{kind}: tar inside", kind, ArchiveContentError, lambda: compress(_tar())


def _zips() -> Iterator[Row]:
    refused: list[tuple[str, type[RefusedContentError], Callable[[], bytes]]] = [
        ("no entry", ArchiveContentError, zipped),
        ("two entries", ArchiveContentError, lambda: zipped(("a", CONTENT), ("b", CONTENT))),
        ("two entries, streamed", ArchiveContentError, lambda: zipped(("a", CONTENT), ("b", b"x"), is_stream=True)),
        ("directory first", ArchiveContentError, lambda: zipped(("disk/", b""), ("disk/disk.raw", CONTENT))),
        ("parent directory", ArchiveTraversalError, lambda: zipped(("../../etc/cron.d/job", CONTENT))),
        ("parent directory inside", ArchiveTraversalError, lambda: zipped(("a/../../job", CONTENT))),
        ("absolute path", ArchiveTraversalError, lambda: zipped(("/etc/passwd", CONTENT))),
        ("windows path", ArchiveTraversalError, lambda: zipped(("..\\..\\windows\\system.ini", CONTENT))),
        ("drive", ArchiveTraversalError, lambda: zipped(("C:/autoexec.bat", CONTENT))),
        ("encrypted", UnsupportedImageError, lambda: _patched(zipped(("a", CONTENT)), 6, b"\x01")),
        ("method unknown", UnsupportedImageError, lambda: zipped(("a", CONTENT), method=zipfile.ZIP_LZMA)),
        ("stored, size behind", UnsupportedImageError, lambda: _patched(_stored(), 6, b"\x08")),
        ("sizes at the integer's limit", MalformedImageError, lambda: _patched(_stored(), 18, b"\xff" * 8)),
        ("stored, shorter than told", MalformedImageError, lambda: _patched(_stored(), 18, b"\x10\0\0\0")),
        ("wrong checksum", MalformedImageError, lambda: _patched(_stored(), 14, b"spam")),
        ("comment cut", TruncatedError, lambda: _patched(_stored(), -2, b"\xff\0")),
        ("a comment too many", MalformedImageError, lambda: _stored() + b"x"),
        ("endless rest", MalformedImageError, lambda: _stored() + bytes(_MIB)),
    ]
    for name, error, build in refused:
        yield f"zip: {name}", "zip", error, build


def _ambiguous_zips() -> Iterator[Row]:
    """Archives of which a reader that begins at the end sees another file."""
    one = zipped(("a", CONTENT))
    other = zipped(("b", b"another disk " * 99))
    central = one.index(b"PK\x01\x02")
    yield "zip: another zip behind it", "zip", ArchiveContentError, lambda: one[:central] + other
    for field, offset in (("name", 46), ("checksum", 16), ("compressed size", 20), ("size", 24), ("offset", 42)):
        what = f"zip: directory with another {field}"
        yield what, "zip", MalformedImageError, partial(_flipped, one, central + offset)
    yield "zip: end that lists two", "zip", MalformedImageError, lambda: _patched(one, len(one) - 14, b"\2\0\2\0")
    yield "zip: end with another place", "zip", MalformedImageError, lambda: _flipped(one, len(one) - 6)


class _Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError

    def tell(self) -> int:
        raise OSError


def _empty_streams(kind: str) -> bytes:
    return COMPRESSORS[kind](b"") * 2000


def _stored() -> bytes:
    return zipped(("a", CONTENT), method=zipfile.ZIP_STORED)


def _tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in ("disk.raw", "readme"):
            member = tarfile.TarInfo(name)
            member.size = len(CONTENT)
            archive.addfile(member, io.BytesIO(CONTENT))
    return target.getvalue()


def _mixed(mebibytes: int) -> bytes:
    """Data that no kind compresses by much more than 100 to 1, so that the size is what it exceeds."""
    step = b"".join(bytes([byte]) * 31 + bytes([255 - byte, byte // 3]) for byte in range(256))
    return (step * (mebibytes * _MIB // len(step) + 1))[: mebibytes * _MIB]


def _xz_of_dictionary(size: int) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    content = bytearray(lzma.compress(CONTENT, filters=filters))
    # "The .xz File Format" 1.1.0, 3.1 and 5.3.1: a block's header has the dictionary's size in six bits, and a CRC.
    bits = 2 * (size.bit_length() - 12)
    header_size = 4 * (content[12] + 1)
    content[12 + 4] = bits
    content[12 + header_size - 4 : 12 + header_size] = _crc32(content[12 : 12 + header_size - 4])
    return bytes(content)


def _crc32(data: bytes | bytearray) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _spoiled(content: bytes) -> bytes:
    middle = len(content) // 2
    return _patched(content, middle, bytes(255 - byte for byte in content[middle : middle + 16]))


def _flipped(content: bytes, offset: int) -> bytes:
    return _patched(content, offset, bytes([content[offset] ^ 0x5A]))


def _patched(content: bytes, offset: int, patch: bytes) -> bytes:
    offset %= len(content)
    return content[:offset] + patch + content[offset + len(patch) :]
