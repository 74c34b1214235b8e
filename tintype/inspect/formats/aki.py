"""AKI, a kernel that a hypervisor boots directly: known by its header, or by that of what it was compressed from."""

from __future__ import annotations

from contextlib import suppress

from tintype.domain.errors import FormatMismatchError, MalformedImageError, TruncatedError, UnsupportedImageError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.compression.head import first_bytes
from tintype.inspect.compression.kinds import compression_of
from tintype.inspect.inspection import Findings
from tintype.inspect.kernels import Kernel, identify_kernel
from tintype.inspect.kernels.banner import BannerSearch
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream

_COMPRESSIONS = frozenset({"gzip", "xz", "zstd", "bz2", "lzma", "lz4", "lzop"})
"""What builds compress kernels with; an archive is none."""

_MAGIC_SIZE = 16
_MAX_RELEASE_SIZE = 255
_MAX_SEARCHED = 64 * 1024 * 1024
"""How far into an uncompressed kernel its version is looked for; Linux has it among the first constants."""


def _parse(stream: Stream) -> Parsing:
    kernel = identify_kernel(stream.head)
    compression = None
    if kernel is None:
        compression, kernel = _look_inside(stream.head)
    facts = kernel.facts | {"aki_kind": kernel.kind}
    if kernel.architecture:
        facts["architecture"] = kernel.architecture
    if compression is None:
        yield from _read_parts(stream, kernel, facts)
    else:
        facts["aki_compression"] = compression
        _tell_version(kernel.banner, facts)
        yield from stream.end()
    return Findings(None, facts)


def _look_inside(head: bytes) -> tuple[str, Kernel]:
    """The compression, and the kernel that was compressed."""
    compression = compression_of(head)
    if compression not in _COMPRESSIONS:
        raise FormatMismatchError(
            "the image was declared as aki, but its bytes are neither a Linux boot image, nor ELF, nor a UEFI program"
        )
    inside = first_bytes(compression, head)
    if inside is None:
        raise UnsupportedImageError(f"a kernel compressed by {compression} cannot be looked into: decompress it first")
    kernel = identify_kernel(inside)
    if kernel is None:
        raise FormatMismatchError(f"the image was declared as aki, but what {compression} compressed is no kernel")
    return compression, kernel


def _read_parts(stream: Stream, kernel: Kernel, facts: dict[str, PropertyValue]) -> Parsing:
    """Read what lies outside of the header, and see that the file is whole."""
    banner = kernel.banner
    if kernel.payload:
        size = min(kernel.payload.length, _MAGIC_SIZE)
        magic = yield from stream.read_exactly(kernel.payload.offset, size, kernel.payload.what)
        if compression := compression_of(magic):
            facts["aki_compression"] = compression
    elif kernel.release:
        size = min(kernel.release.length, _MAX_RELEASE_SIZE)
        text = yield from stream.read_exactly(kernel.release.offset, size, kernel.release.what)
        banner = text.partition(b"\0")[0].decode("utf-8", "replace").strip()
    elif kernel.has_banner_within:
        search = BannerSearch()
        # Most kernels are smaller than what is searched; whether this one is whole is seen below.
        with suppress(TruncatedError):
            yield from stream.pass_through(0, _MAX_SEARCHED, search.take, "the kernel")
        banner = search.text
    _tell_version(banner, facts)
    yield from stream.end()
    for part in kernel.parts:
        if part.length:
            stream.require_size(part.end, part.what)
    return Findings(None, facts)


def _tell_version(banner: str, facts: dict[str, PropertyValue]) -> None:
    """The release alone is what programs compare; other kernels than Linux write what they like."""
    if banner:
        facts["aki_banner"] = banner
        facts["kernel_version"] = banner.split()[0] if banner[:1].isdigit() else banner


_IN_HEADER = "kernel header"

FORMAT = Format(
    DiskFormat.AKI,
    _parse,
    needs_declaration=True,
    facts=(
        FactSpec("aki_kind", str, _IN_HEADER, "bzImage, zImage, Image, vmlinux, zboot, uki or efi"),
        FactSpec("aki_boot_protocol", str, _IN_HEADER, "version of the boot protocol of Linux for x86"),
        FactSpec("aki_relocatable", bool, _IN_HEADER, "runs at other addresses than the one it was linked for"),
        FactSpec("aki_memory_size_bytes", int, _IN_HEADER, "memory that it wants for itself when it starts"),
        FactSpec("aki_efi_stub", bool, _IN_HEADER, "UEFI can start it as a program"),
        FactSpec("aki_efi_handover", bool, _IN_HEADER, "has an entry point for boot loaders under UEFI"),
        FactSpec("aki_compression", str, "first bytes of the compressed part", "what the kernel is compressed with"),
        FactSpec("aki_banner", str, "kernel header, or the kernel's constants", "version and build, in its words"),
        FactSpec("kernel_version", str, "kernel header, or the kernel's constants", "release of the kernel"),
        FactSpec("architecture", str, _IN_HEADER, "machine that it runs on, as compute services name it"),
    ),
    rules=(
        Rule(FormatMismatchError, "what was declared a kernel, and is none, compressed or not"),
        Rule(MalformedImageError, "a header that contradicts itself; a compressed stream that is damaged"),
        Rule(TruncatedError, "a kernel whose parts end beyond the file"),
        Rule(UnsupportedImageError, "a kernel compressed by what cannot be looked into, such as lz4"),
    ),
)
