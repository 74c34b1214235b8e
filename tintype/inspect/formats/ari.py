"""ARI, a ramdisk for a kernel: archives of cpio, compressed or not, or a compressed file system of the older kind."""

from __future__ import annotations

from tintype.domain.errors import FormatMismatchError, MalformedImageError, TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.archives.cpio import MAGICS, Walk, walk_archives
from tintype.inspect.compression.head import first_bytes
from tintype.inspect.compression.kinds import compression_of
from tintype.inspect.file_systems import identify_file_system
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream

_COMPRESSIONS = frozenset({"gzip", "xz", "zstd", "bz2", "lzma", "lz4", "lzop"})
"""What kernels decompress a ramdisk from (Linux, lib/decompress.c)."""

_REST_SIZE = 64 * 1024
"""How much of the compressed part is looked into."""


def _parse(stream: Stream) -> Parsing:
    walk = yield from walk_archives(stream, rest_size=_REST_SIZE)
    compression = compression_of(walk.rest)
    if walk.rest and compression not in _COMPRESSIONS:
        _refuse(walk)
    facts: dict[str, PropertyValue] = {
        "ari_compression": compression or "none",
        "ari_has_early_cpio": walk.archives > 1 or bool(walk.archives and walk.rest),
    }
    if compression:
        facts["ari_content"] = _content(compression, walk.rest)
    if walk.archives:
        facts |= {
            "ari_archives": walk.archives,
            "ari_entries": walk.entries,
            "ari_odd_names": walk.odd_names,
            "ari_has_microcode": walk.has_microcode,
        }
    yield from stream.end()
    return Findings(None, facts)


def _refuse(walk: Walk) -> None:
    if walk.archives:
        raise MalformedImageError("what follows the ramdisk's cpio archive is neither another nor compressed")
    raise FormatMismatchError("the image was declared as ari, but its bytes are neither a cpio archive nor compressed")


def _content(compression: str, rest: bytes) -> str:
    """What was compressed: ``cpio``, the type of a file system, or ``unknown`` where it cannot be looked into."""
    inside = first_bytes(compression, rest)
    if inside is None:
        return "unknown"
    if inside.startswith(MAGICS):
        return "cpio"
    file_system = identify_file_system(lambda offset, length: inside[offset : offset + length])
    if file_system is None:
        raise FormatMismatchError(f"the image was declared as ari, but what {compression} compressed is no ramdisk")
    return file_system.type


_IN_ARCHIVE = "ramdisk's uncompressed cpio archives"

FORMAT = Format(
    DiskFormat.ARI,
    _parse,
    needs_declaration=True,
    facts=(
        FactSpec("ari_compression", str, "ramdisk's main part", "gzip, xz, zstd, bz2, lzma, lz4, lzop or none"),
        FactSpec("ari_content", str, "beginning of the compressed part", "cpio, or which file system; or unknown"),
        FactSpec("ari_has_early_cpio", bool, _IN_ARCHIVE, "an archive that needs no decompression comes first"),
        FactSpec("ari_archives", int, _IN_ARCHIVE, "how many there are"),
        FactSpec("ari_entries", int, _IN_ARCHIVE, "files, directories and links in them"),
        FactSpec("ari_odd_names", int, _IN_ARCHIVE, "names in them that have control characters"),
        FactSpec("ari_has_microcode", bool, _IN_ARCHIVE, "brings updates of the processor's microcode"),
    ),
    rules=(
        Rule(FormatMismatchError, "what was declared a ramdisk, and is neither cpio nor compressed cpio"),
        Rule(MalformedImageError, "a damaged cpio header or compressed stream; more entries than any ramdisk has"),
        Rule(TruncatedError, "an archive that ends beyond the file"),
    ),
)
