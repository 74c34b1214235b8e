"""By which program some bytes were compressed, from their first few.

Taking them apart is the matter of :mod:`tintype.inspect.compression.decompressor`.
"""

from __future__ import annotations

from collections.abc import Mapping

DECOMPRESSIBLE = frozenset({"gzip", "zip", "xz", "zstd", "bz2"})
"""The kinds that an import takes apart. The others are known in order to say what a refused image is."""

_MAGICS: Mapping[bytes, str] = {
    b"\x1f\x8b\x08": "gzip",  # RFC 1952: deflate is the only method
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without an entry
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",  # RFC 8878
    b"\x04\x22\x4d\x18": "lz4",
    b"\x02\x21\x4c\x18": "lz4",  # the older frame, which Linux kernels use
    b"\x89LZO\x00\r\n\x1a\n": "lzop",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x1f\x9d": "compress",
}
_SKIPPABLE_ZSTD = bytes(range(0x50, 0x60))
_BZ2_BLOCKS = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
"""Behind bzip2's four bytes comes a block, or the end of an empty stream; "BZh" alone is too little evidence."""


def compression_of(head: bytes) -> str | None:
    """The kind of compression by the bytes that ``head`` begins with; ``None`` if there is none that is known.

    One of :data:`DECOMPRESSIBLE`, or of ``lz4``, ``lzma``, ``lzop``, ``7z``, ``rar``, ``compress``.
    """
    for magic, kind in _MAGICS.items():
        if head.startswith(magic):
            return kind
    if head[1:4] == b"\x2a\x4d\x18" and head[:1] in (bytes([byte]) for byte in _SKIPPABLE_ZSTD):
        return "zstd"
    if head[:3] == b"BZh" and head[3:4] in b"123456789" and head[4:10] in _BZ2_BLOCKS:
        return "bz2"
    return "lzma" if _is_lzma(head) else None


def _is_lzma(head: bytes) -> bool:
    """The old .lzma has no magic: its usual properties, a dictionary of a usual size, and a size or none (-1)."""
    if len(head) < 14 or head[0] != 0x5D or head[13] != 0:
        return False
    dictionary_size, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    is_usual = dictionary_size >= 4096 and dictionary_size & (dictionary_size - 1) == 0
    return is_usual and (size == (1 << 64) - 1 or size < 1 << 40)
