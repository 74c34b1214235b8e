"""Whether an image is converted, to what, by which tool and with which arguments: pure decisions, nothing is run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tintype.domain.errors import EncryptedImageError, InternalError, InvalidFormatError
from tintype.domain.events import SkipReason
from tintype.domain.values import Blob, DiskFormat
from tintype.inspect import encryption_of
from tintype.inspect.inspection import place_of_disk

_QEMU_NAMES = {
    DiskFormat.RAW: "raw",
    DiskFormat.QCOW2: "qcow2",
    DiskFormat.VMDK: "vmdk",
    DiskFormat.VDI: "vdi",
    DiskFormat.VHD: "vpc",
    DiskFormat.VHDX: "vhdx",
    DiskFormat.PLOOP: "parallels",
}
"""The formats of which a disk is read, and qemu-img's names for them."""

_HOLDS_A_DISK = frozenset({*_QEMU_NAMES, DiskFormat.OVA})

OUTPUT_FORMATS = frozenset({DiskFormat.RAW, DiskFormat.QCOW2, DiskFormat.VMDK})
"""What a deployment may prefer."""


class Tool(StrEnum):
    """What converts."""

    READER = "tintype"
    """Our own readers write the disk out as raw: no other program sees the image."""

    QEMU_IMG = "qemu-img"
    ROOT_DISK = "mke2fs"


class Qcow2Compression(StrEnum):
    """How the clusters of qcow2 output are compressed."""

    NONE = "none"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class Preference:
    """What the deployment wants of its imports; ``output_format`` is ``None`` where it does not convert."""

    output_format: DiskFormat | None
    qcow2_compression: Qcow2Compression = Qcow2Compression.NONE
    is_docker_converted: bool = False


@dataclass(frozen=True, slots=True)
class Convert:
    """Convert with this tool."""

    source_format: DiskFormat
    output_format: DiskFormat
    tool: Tool


@dataclass(frozen=True, slots=True)
class Skip:
    """Publish the image as it came."""

    why: SkipReason


class VhdSizeRule(StrEnum):
    """qemu-img's names for the two sizes that a VHD's footer tells (QEMU, block/vpc.c: ``force_size_calc``)."""

    GEOMETRY = "chs"
    CURRENT_SIZE = "current_size"


@dataclass(frozen=True, slots=True)
class SourceDisk:
    """Where in an image's bytes its disk is, and in which format: all of them, but for an archive's.

    ``vhd_size_rule`` is which of a VHD's two sizes qemu-img is to go by: left alone it cuts the disks of some programs.
    """

    disk_format: DiskFormat
    offset: int = 0
    length: int | None = None
    vhd_size_rule: VhdSizeRule | None = None


def plan_conversion(
    found: DiskFormat,
    preference: Preference,
    *,
    is_import: bool,
    encryption: str | None = None,
    is_off: bool = False,
    is_compressed: bool = False,
) -> Convert | Skip:
    """Decide about an image whose bytes were found to be in the format ``found``.

    ``encryption`` is the fact of that name. ``is_off`` says that the importer leaves this image as it is,
    ``is_compressed`` that the bytes are a disk only once somebody has decompressed them.

    Raises:
        EncryptedImageError: if the disk would have to be converted, but is encrypted.
        InvalidFormatError: if the preferred format is none of :data:`OUTPUT_FORMATS`.
    """
    preferred = preference.output_format
    if not is_import:
        return Skip(SkipReason.NOT_AN_IMPORT)
    if preferred is None or is_off:
        return Skip(SkipReason.DISABLED)
    if found is DiskFormat.DOCKER and preference.is_docker_converted and not is_compressed:
        return Convert(found, DiskFormat.RAW, Tool.ROOT_DISK)
    if found not in _HOLDS_A_DISK or is_compressed:
        return Skip(SkipReason.NOT_A_DISK)
    if found is preferred:
        return Skip(SkipReason.ALREADY_PREFERRED)
    if encryption is not None:
        raise EncryptedImageError(
            f"the disk is encrypted ({encryption}), so it cannot be converted from {found} to {preferred}"
        )
    if preferred not in OUTPUT_FORMATS:
        raise InvalidFormatError(f"there is no conversion from {found} to {preferred}")
    return Convert(found, preferred, Tool.READER if preferred is DiskFormat.RAW else Tool.QEMU_IMG)


def readable_disk(staged: Blob) -> SourceDisk | None:
    """The guest's disk inside some bytes; ``None`` where there is none, or none that can be read.

    An encrypted disk inside another format cannot; one that is raw is its own content.
    """
    found = staged.disk_format
    if found is DiskFormat.OVA:
        return _disk_of_appliance(staged)
    if found not in _QEMU_NAMES or (encryption_of(staged.facts) and found is not DiskFormat.RAW):
        return None
    return SourceDisk(found)


def _disk_of_appliance(staged: Blob) -> SourceDisk | None:
    if encryption_of(staged.facts):
        return None
    place = place_of_disk(staged.facts)
    if place is None:
        raise InternalError("the inspection of an appliance did not tell where its disk is")
    return SourceDisk(*place)


def qemu_img_arguments(
    source: SourceDisk,
    output_format: DiskFormat,
    filename: str,
    compression: Qcow2Compression = Qcow2Compression.NONE,
) -> tuple[str, ...]:
    """The arguments of qemu-img, up to the name of the output.

    The source's format is always given, and that of the file beneath: qemu-img would otherwise believe a header that
    hides in a raw disk (CVE-2026-24708), and a file name that looks like a protocol. The output stays sparse.

    Raises:
        InvalidFormatError: if there is no conversion from one to the other.
    """
    if source.disk_format not in _QEMU_NAMES or output_format not in OUTPUT_FORMATS:
        raise InvalidFormatError(f"there is no conversion from {source.disk_format} to {output_format}")
    return (
        *("convert", "-p", "-O", str(output_format)),
        *_output_options(output_format, compression),
        *("--image-opts", _image_options(source, filename)),
    )


def _output_options(output_format: DiskFormat, compression: Qcow2Compression) -> tuple[str, ...]:
    match output_format, compression:
        case DiskFormat.VMDK, _:
            # One file that a compute service can stream; the default subformat could not be.
            return ("-o", "subformat=streamOptimized")
        case DiskFormat.QCOW2, Qcow2Compression.ZSTD:
            # Sixteen clusters at once take 0.7 of the time; compressed, they lie in no order that matters.
            return ("-c", "-W", "-m", "16", "-o", "compression_type=zstd")
        case _:
            return ()


def _image_options(source: SourceDisk, filename: str) -> str:
    file = {"driver": "file", "filename": filename}
    if source.length is not None:
        beneath = {f"file.{key}": value for key, value in file.items()}
        file = {"driver": "raw", "offset": str(source.offset), "size": str(source.length), **beneath}
    options = {"driver": _QEMU_NAMES[source.disk_format], **{f"file.{key}": value for key, value in file.items()}}
    if source.vhd_size_rule is not None:
        options["force_size_calc"] = source.vhd_size_rule
    return ",".join(f"{key}={value.replace(',', ',,')}" for key, value in options.items())
