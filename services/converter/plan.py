"""Whether an image is converted, to what, and with which arguments of qemu-img: pure decisions, nothing is run here."""

from __future__ import annotations

from dataclasses import dataclass

from tintype.domain.errors import EncryptedImageError, InvalidFormatError
from tintype.domain.events import SkipReason
from tintype.domain.values import DiskFormat

_QEMU_NAMES = {
    DiskFormat.RAW: "raw",
    DiskFormat.QCOW2: "qcow2",
    DiskFormat.VMDK: "vmdk",
    DiskFormat.VDI: "vdi",
    DiskFormat.VHD: "vpc",
    DiskFormat.VHDX: "vhdx",
}
"""The formats that hold a disk which qemu-img can read, and its names for them."""

OUTPUT_FORMATS = frozenset({DiskFormat.RAW, DiskFormat.QCOW2, DiskFormat.VMDK})
"""What a deployment may prefer."""

_OUTPUT_OPTIONS = {
    # One file that a compute service can stream; the default subformat could not be.
    DiskFormat.VMDK: ("-o", "subformat=streamOptimized"),
}

_PARALLEL_SOURCES = frozenset({DiskFormat.QCOW2, DiskFormat.VHD, DiskFormat.VHDX})
_PARALLEL_OPTIONS = ("-W", "-m", "8")
"""Out of order, eight requests at once. Measured: compressed qcow2 takes 0.7, vhdx 0.3 and vhd 0.2 of the time to raw;
vdi and vmdk gain nothing. Other outputs than raw would keep their clusters in disorder for ever."""


@dataclass(frozen=True, slots=True)
class Convert:
    """Convert with these arguments; the source and the output are to follow them."""

    source_format: DiskFormat
    output_format: DiskFormat
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """Publish the image as it came."""

    why: SkipReason


def plan_conversion(
    found: DiskFormat, preferred: DiskFormat | None, *, is_import: bool, encryption: str | None
) -> Convert | Skip:
    """Decide about an image whose bytes were found to be in the format ``found``.

    ``preferred`` is ``None`` where the deployment does not convert. ``encryption`` is the fact of that name.

    Raises:
        EncryptedImageError: if the disk would have to be converted, but is encrypted.
        InvalidFormatError: if ``preferred`` is none of :data:`OUTPUT_FORMATS`.
    """
    if not is_import:
        return Skip(SkipReason.NOT_AN_IMPORT)
    if preferred is None:
        return Skip(SkipReason.DISABLED)
    if found not in _QEMU_NAMES:
        return Skip(SkipReason.NOT_A_DISK)
    if found is preferred:
        return Skip(SkipReason.ALREADY_PREFERRED)
    if encryption is not None:
        raise EncryptedImageError(
            f"the disk is encrypted ({encryption}), so it cannot be converted from {found} to {preferred}"
        )
    return Convert(found, preferred, convert_arguments(found, preferred))


def convert_arguments(source_format: DiskFormat, output_format: DiskFormat) -> tuple[str, ...]:
    """The arguments of qemu-img, up to the names of the source and the output.

    The source's format is always given: qemu-img would otherwise believe a header that hides in a raw disk
    (CVE-2026-24708). The output stays sparse.

    Raises:
        InvalidFormatError: if there is no conversion from one to the other.
    """
    if source_format not in _QEMU_NAMES or output_format not in OUTPUT_FORMATS:
        raise InvalidFormatError(f"there is no conversion from {source_format} to {output_format}")
    is_parallel = output_format is DiskFormat.RAW and source_format in _PARALLEL_SOURCES
    return (
        *("convert", "-p", "-f", _QEMU_NAMES[source_format], "-O", _QEMU_NAMES[output_format]),
        *(_PARALLEL_OPTIONS if is_parallel else ()),
        *_OUTPUT_OPTIONS.get(output_format, ()),
    )
