"""Disk images that are to be refused, each with the error that must say so. Built by code, never kept as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tintype.domain.errors import (
    AllocationRatioError,
    DifferencingDiskError,
    EmptyImageError,
    FormatMismatchError,
    MalformedImageError,
    RefusedContentError,
    TruncatedError,
    UnsafeBackingFileError,
    UnsafeDataFileError,
    UnsafeExtentError,
    UnsupportedImageError,
    VirtualSizeTooLargeError,
)
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspector
from tintype.testing.handmade import (
    fixed_vhd,
    qcow2,
    qcow2_extension,
    stream_vmdk,
    vdi,
    vhd,
    vhdx,
    vmdk,
    vmdk_descriptor,
)
from tintype.testing.handmade_iso import iso
from tintype.testing.hostile_archives import archive_families
from tintype.testing.hostile_boot import boot_families
from tintype.testing.hostile_sizes import empty_giants, huge_disks
from tintype.testing.hostile_tables import disk_families

MAX_VIRTUAL_SIZE = 1 << 40
"""The cap in bytes under which :func:`hostile_images` are to be inspected."""

_Build = Callable[[], bytes]
_Rows = Iterator[tuple[str, type[RefusedContentError], _Build]]


@dataclass(frozen=True, slots=True)
class HostileImage:
    """Bytes to declare as ``declared``, and the error that must refuse them, under the limits of a site."""

    declared: DiskFormat | None
    error: type[RefusedContentError]
    build: _Build
    max_virtual_size: int | None = MAX_VIRTUAL_SIZE
    max_allocation_ratio: int | None = None

    def inspector(self) -> Inspector:
        """An inspector with the declaration and the limits under which the image is to be refused."""
        return Inspector(
            self.declared, max_virtual_size=self.max_virtual_size, max_allocation_ratio=self.max_allocation_ratio
        )


def _qcow2_references() -> _Rows:
    yield "backing file", UnsafeBackingFileError, lambda: qcow2(backing_file_offset=512, backing_file_size=11)
    yield "backing file without a size", UnsafeBackingFileError, lambda: qcow2(backing_file_offset=512)
    yield "backing file without an offset", UnsafeBackingFileError, lambda: qcow2(backing_file_size=11)
    yield "data file bit", UnsafeDataFileError, lambda: qcow2(incompatible=4)
    yield (
        "data file extension",
        UnsafeDataFileError,
        lambda: qcow2(extensions=qcow2_extension(0x44415441, b"/etc/passwd")),
    )
    described = b'json:{"driver":"file","filename":"/etc/shadow"}'
    yield (
        "data file that is a JSON description",
        UnsafeDataFileError,
        lambda: qcow2(incompatible=4, extensions=qcow2_extension(0x44415441, described)),
    )
    yield (
        "data file extension behind others",
        UnsafeDataFileError,
        lambda: qcow2(extensions=qcow2_extension(0x6803F857, b"x" * 48) + qcow2_extension(0x44415441, b"/etc/shadow")),
    )


def _qcow2_headers() -> _Rows:
    fields: list[tuple[str, dict[str, Any]]] = [
        ("unknown version", {"version": 4}),
        ("unknown incompatible bit", {"incompatible": 1 << 40}),
        ("corrupt bit", {"incompatible": 2}),
        ("compression bit without a type", {"incompatible": 8}),
        ("unknown encryption", {"crypt_method": 3}),
        ("tiny clusters", {"cluster_bits": 8}),
        ("huge clusters", {"cluster_bits": 22}),
        ("cluster size at the integer's limit", {"cluster_bits": 0xFFFF_FFFF}),
        ("extended L2 with clusters too small for it", {"incompatible": 16}),
        ("short header", {"header_length": 72}),
        ("header longer than a cluster", {"header_length": 8192}),
        ("refcount order", {"refcount_order": 7}),
        ("absurd L1", {"l1_size": 1 << 20}),
        ("L1 at the integer's limit", {"l1_size": 0xFFFF_FFFF}),
        ("L1 too small for the disk", {"size": 1 << 34}),
        ("no refcount table", {"refcount_table_clusters": 0}),
        ("absurd refcount table", {"refcount_table_clusters": 0xFFFF_FFFF}),
        ("absurd snapshots", {"nb_snapshots": 0xFFFF_FFFF}),
        ("L1 between clusters", {"l1_table_offset": 12289}),
        ("L1 offset at the integer's limit", {"l1_table_offset": (1 << 64) - 4096}),
    ]
    for name, values in fields:
        yield name, MalformedImageError, partial(qcow2, **values)
    yield "virtual size at the integer's limit", VirtualSizeTooLargeError, lambda: qcow2(size=(1 << 64) - 1)
    yield "overlong extension", MalformedImageError, lambda: qcow2(extensions=b"\x11" * 4 + b"\x7f" * 4)
    yield "L2 between clusters", MalformedImageError, lambda: qcow2(l1_entry=4 * 4096 + 512)


def _qcow2_truncated() -> _Rows:
    yield "ends in the header", TruncatedError, lambda: qcow2()[:60]
    yield "ends in the version 3 header", TruncatedError, lambda: qcow2()[:90]
    yield "ends before L1", TruncatedError, lambda: qcow2()[: 3 * 4096]
    yield "ends before L2", TruncatedError, lambda: qcow2()[: 4 * 4096]
    yield "ends in L2", TruncatedError, lambda: qcow2()[: 4 * 4096 + 512]
    yield "ends before the data", TruncatedError, lambda: qcow2()[: 5 * 4096]
    yield "data beyond the end", TruncatedError, lambda: qcow2(l2_entry=1 << 40)
    yield "compressed data beyond the end", TruncatedError, lambda: qcow2(l2_entry=1 << 62 | 1 << 40)
    yield "L2 beyond the end", TruncatedError, lambda: qcow2(l1_entry=1 << 40)
    yield "L1 beyond the end", TruncatedError, lambda: qcow2(l1_table_offset=1 << 40)
    yield "refcount table beyond the end", TruncatedError, lambda: qcow2(refcount_table_offset=1 << 40)
    yield "snapshots beyond the end", TruncatedError, lambda: qcow2(nb_snapshots=1, snapshots_offset=1 << 40)


def _vmdk_extents() -> _Rows:
    extents = {
        "absolute path": 'RW 2048 SPARSE "/etc/passwd"',
        "parent directory": 'RW 2048 SPARSE "../secret"',
        "windows path": 'RW 2048 SPARSE "C:\\\\secret"',
        "protocol": 'RW 2048 SPARSE "nbd:unix:socket"',
        "flat extent": 'RW 2048 FLAT "disk-flat.vmdk" 0',
        "device": 'RW 2048 VMFSRDM "sda"',
        "two extents": 'RW 2048 SPARSE "a.vmdk"\nRW 2048 SPARSE "b.vmdk"',
        "no extent": "",
        "extent that cannot be read": "RW many SPARSE nowhere",
        "extent in lower case": 'rw 2048 sparse "a.vmdk"',
    }
    for name, text in extents.items():
        yield name, UnsafeExtentError, partial(vmdk, vmdk_descriptor(extents=text))
    for create_type in ("monolithicFlat", "twoGbMaxExtentSparse", "vmfs", "fullDevice", "custom", ""):
        yield (
            f"create type {create_type!r}",
            UnsafeExtentError,
            partial(vmdk, vmdk_descriptor(create_type=create_type)),
        )
    yield "descriptor only", UnsafeExtentError, vmdk_descriptor
    yield "descriptor only, disguised", UnsafeExtentError, lambda: b"# hello\n\n" + vmdk_descriptor()[22:]
    yield "no capacity", UnsafeExtentError, lambda: vmdk(capacity=0)
    yield "no descriptor", UnsafeExtentError, lambda: vmdk(descriptor_offset=0)
    yield "ESX extent", UnsafeExtentError, lambda: b"COWD" + bytes(4096)


def _vmdk_tables() -> _Rows:
    fields: list[tuple[str, dict[str, Any]]] = [
        ("unknown version", {"version": 9}),
        ("grain size", {"grain_size": 100}),
        ("grain size of zero", {"grain_size": 0}),
        ("huge grain tables", {"entries_per_table": 1 << 30}),
        ("grain directory bomb", {"capacity": 1 << 53, "entries_per_table": 1, "grain_size": 1}),
        ("huge descriptor", {"descriptor_size": 1 << 40}),
        ("unknown compression", {"compression": 7}),
        ("other size than the descriptor", {"capacity": 4096}),
    ]
    for name, values in fields:
        yield name, MalformedImageError, partial(vmdk, **values)
    yield (
        "descriptor injection",
        MalformedImageError,
        lambda: vmdk(vmdk_descriptor(more='createType="monolithicFlat"')),
    )
    yield "parent hint", DifferencingDiskError, lambda: vmdk(vmdk_descriptor(more='parentFileNameHint="/etc/passwd"'))
    hint = 'parentFileNameHint="/etc/passwd"'
    yield "parent hint in a comment", DifferencingDiskError, lambda: vmdk(vmdk_descriptor(more=f"# {hint}"))
    yield "parent hint in another key", DifferencingDiskError, lambda: vmdk(vmdk_descriptor(more=f"x{hint}"))
    yield "parent hint in an extent", DifferencingDiskError, partial(vmdk, vmdk_descriptor(extents=_EXTENT_WITH_HINT))
    yield "parent hint behind the descriptor", DifferencingDiskError, lambda: _vmdk_with_hint_behind(hint.encode())
    yield "parent hint where QEMU looks", DifferencingDiskError, lambda: _vmdk_with_two_descriptors(hint)
    yield (
        "parent content id",
        DifferencingDiskError,
        lambda: vmdk(vmdk_descriptor().replace(b"parentCID=ffffffff", b"parentCID=12345678")),
    )
    yield "ends in the descriptor", TruncatedError, lambda: vmdk()[:2048]
    yield "ends before the grain", TruncatedError, lambda: vmdk()[: 26 * 512]
    yield "grain beyond the end", TruncatedError, lambda: vmdk(grain_sector=1 << 30)
    yield "directory beyond the end", TruncatedError, lambda: vmdk(directory_offset=1 << 40)
    yield "overhead beyond the end", TruncatedError, lambda: vmdk(overhead=1 << 40)
    yield "stream without a footer", TruncatedError, lambda: stream_vmdk()[:-1024]
    yield "stream cut in its footer", TruncatedError, lambda: stream_vmdk()[:-1]
    yield "footer of another size", MalformedImageError, lambda: stream_vmdk(capacity=4096)
    yield "footer without a directory", MalformedImageError, lambda: stream_vmdk(directory_offset=(1 << 64) - 1)
    yield "footer's directory beyond the end", TruncatedError, lambda: stream_vmdk(directory_offset=1 << 40)


_EXTENT_WITH_HINT = 'RW 2048 SPARSE "parentFileNameHint="/etc/passwd"'


def _vmdk_with_hint_behind(hint: bytes) -> bytes:
    """The header gives the descriptor one sector; QEMU reads on until a zero byte."""
    return vmdk(vmdk_descriptor().ljust(512, b"#") + b"\n" + hint, descriptor_size=1)


def _vmdk_with_two_descriptors(hint: str) -> bytes:
    """The header names a clean descriptor at the end; QEMU reads the parent's name at sector 1 all the same."""
    image = vmdk(vmdk_descriptor(more=hint), descriptor_offset=26 + 128)
    return image + vmdk_descriptor().ljust(20 * 512, b"\0")


def _vdi() -> _Rows:
    yield "difference", DifferencingDiskError, lambda: vdi(image_type=4)
    yield "undo", DifferencingDiskError, lambda: vdi(image_type=3)
    yield "link", DifferencingDiskError, lambda: vdi(link_uuid=b"\x44" * 16)
    yield "parent", DifferencingDiskError, lambda: vdi(parent_uuid=b"\x44" * 16)
    yield "unknown version", MalformedImageError, lambda: vdi(version=0x20000)
    yield "block size", MalformedImageError, lambda: vdi(block_size=0)
    yield "disk larger than its blocks", MalformedImageError, lambda: vdi(disk_size=1 << 50)
    yield "block map bomb", MalformedImageError, lambda: vdi(blocks=0xFFFF_FFFF)
    yield "block map beyond its blocks", MalformedImageError, lambda: vdi(map_entry=9)
    yield "ends in a block", TruncatedError, lambda: vdi()[:-1]
    yield "ends in the header", TruncatedError, lambda: vdi()[:100]


def _vhd() -> _Rows:
    yield "difference", DifferencingDiskError, lambda: vhd(disk_type=4)
    yield "fixed disk that begins with a footer", MalformedImageError, lambda: vhd(disk_type=2)
    yield "wrong checksum", MalformedImageError, lambda: vhd()[:100] + b"x" + vhd()[101:]
    yield "wrong checksum of the header", MalformedImageError, lambda: vhd()[:700] + b"x" + vhd()[701:]
    yield "block size", MalformedImageError, lambda: vhd(block_size=3000)
    yield "block table too short", MalformedImageError, lambda: vhd(max_entries=0)
    yield "block table bomb", MalformedImageError, lambda: vhd(max_entries=0xFFFF_FFFF)
    yield "no disk", MalformedImageError, lambda: vhd(current_size=0)
    yield "disk beyond the format's limit", MalformedImageError, lambda: vhd(current_size=1 << 50)
    yield "footer missing", TruncatedError, lambda: vhd()[:-512]
    yield "block beyond the end", TruncatedError, lambda: vhd(table_entry=1 << 20)
    yield "header beyond the end", TruncatedError, lambda: vhd(data_offset=1 << 40)
    yield "fixed disk shorter than told", TruncatedError, lambda: fixed_vhd(current_size=1 << 30)
    yield "difference, by its footer", DifferencingDiskError, lambda: fixed_vhd(disk_type=4)
    yield "footer of a disk whose beginning is missing", MalformedImageError, lambda: fixed_vhd(disk_type=3)


def _vhdx() -> _Rows:
    parent_locator = {"a8d35f2d-b30b-454d-abf7-d3d84834ab0c": b"parent"}
    unknown = "01234567-89ab-cdef-0123-456789abcdef"
    metadata, bat = "8b7ca206-4790-4b9a-b8fe-575f050f886e", "2dc27766-f623-4200-9d64-115e9bfd4a08"
    mib = 1 << 20
    yield "parent", DifferencingDiskError, lambda: vhdx(flags=2)
    yield "parent locator", DifferencingDiskError, lambda: vhdx(items=parent_locator)
    yield "log to replay", UnsupportedImageError, lambda: vhdx(log_guid=b"\x55" * 16)
    yield "damaged headers", MalformedImageError, lambda: b"vhdxfile" + bytes(4 * mib)
    yield "unknown required item", MalformedImageError, lambda: vhdx(items={unknown: b""})
    yield "unknown required region", MalformedImageError, lambda: vhdx(regions={unknown: (mib, mib)})
    yield "no block table", MalformedImageError, lambda: vhdx(regions={metadata: (mib, mib)})
    yield "region between megabytes", MalformedImageError, lambda: vhdx(regions={bat: (mib + 1, mib)})
    yield "tables in one place", MalformedImageError, lambda: vhdx(regions={metadata: (mib, mib), bat: (mib, mib)})
    yield "block size", MalformedImageError, lambda: vhdx(block_size=1000)
    yield "disk beyond the format's limit", MalformedImageError, lambda: vhdx(disk_size=1 << 60)
    yield "block table too short", MalformedImageError, lambda: vhdx(disk_size=1 << 39)
    yield "ends before the metadata", TruncatedError, lambda: vhdx()[:mib]
    yield "ends in a block", TruncatedError, lambda: vhdx()[:-1]
    yield "block beyond the end", TruncatedError, lambda: vhdx(bat_entry=1 << 40 | 6)


def _declared_otherwise() -> Iterator[tuple[str, HostileImage]]:
    disguises: dict[str, _Build] = {
        "qcow2": qcow2, "vmdk": vmdk, "vdi": vdi, "vhd": vhd, "fixed vhd": fixed_vhd, "vhdx": vhdx, "iso": iso,
        "vmdk descriptor": vmdk_descriptor,
    }  # fmt: skip
    for name, build in disguises.items():
        yield f"raw that is {name}", HostileImage(DiskFormat.RAW, FormatMismatchError, build)
    yield "raw that is QED", HostileImage(DiskFormat.RAW, FormatMismatchError, lambda: b"QED\0" + bytes(4096))
    yield "kernel that is QED", HostileImage(DiskFormat.AKI, FormatMismatchError, lambda: b"QED\0" + bytes(4096))
    yield "qcow2 that is raw", HostileImage(DiskFormat.QCOW2, FormatMismatchError, lambda: b"\xda" * 4096)
    yield "kernel that is qcow2", HostileImage(DiskFormat.AKI, FormatMismatchError, qcow2)
    yield "qcow2 and vdi at once", HostileImage(None, FormatMismatchError, lambda: _with_vdi_signature(qcow2()))
    yield "empty", HostileImage(DiskFormat.RAW, EmptyImageError, lambda: b"")
    yield (
        "raw: disk beyond the site's limit",
        HostileImage(DiskFormat.RAW, VirtualSizeTooLargeError, lambda: bytes(4096), max_virtual_size=2048),
    )
    for declared, build in huge_disks():
        yield f"{declared}: disk larger than the site takes", HostileImage(declared, VirtualSizeTooLargeError, build)
    for declared, build in empty_giants():
        yield (
            f"{declared}: giant disk in a small file",
            HostileImage(declared, AllocationRatioError, build, max_virtual_size=None, max_allocation_ratio=1000),
        )
    yield (
        "qcow2: disk beyond the site's limit",
        HostileImage(None, VirtualSizeTooLargeError, lambda: qcow2(size=1 << 41, l1_size=1 << 20)),
    )


def _with_vdi_signature(image: bytes) -> bytes:
    return image[:0x40] + b"\x7f\x10\xda\xbe" + image[0x44:]


def _every_image() -> Iterator[tuple[str, HostileImage]]:
    families: tuple[tuple[DiskFormat | None, _Rows], ...] = (
        (DiskFormat.QCOW2, _qcow2_references()),
        (DiskFormat.QCOW2, _qcow2_headers()),
        (DiskFormat.QCOW2, _qcow2_truncated()),
        (DiskFormat.VMDK, _vmdk_extents()),
        (DiskFormat.VMDK, _vmdk_tables()),
        (DiskFormat.VDI, _vdi()),
        (DiskFormat.VHD, _vhd()),
        (DiskFormat.VHDX, _vhdx()),
        *disk_families(),
        *archive_families(),
        *boot_families(),
    )
    for declared, rows in families:
        for name, error, build in rows:
            yield f"{declared}: {name}", HostileImage(declared, error, build)
    yield from _declared_otherwise()


def hostile_images() -> Mapping[str, HostileImage]:
    """All of them, by name."""
    images = list(_every_image())
    assert len({name for name, _ in images}) == len(images), "two images of one name"
    return dict(images)
