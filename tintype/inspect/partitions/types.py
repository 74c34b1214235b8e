"""The names of the partition types that are often met, and which of them say something about the machine."""

from __future__ import annotations

from collections.abc import Mapping

EFI_SYSTEM = "efi_system"
BIOS_BOOT = "bios_boot"
PROTECTIVE = 0xEE
EXTENDED = frozenset({0x05, 0x0F, 0x85})

GPT_TYPES: Mapping[str, str] = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": EFI_SYSTEM,
    "21686148-6449-6e6f-744e-656564454649": BIOS_BOOT,
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b": "prep_boot",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "linux_extended_boot",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "linux_filesystem",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "linux_swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "linux_lvm",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "linux_raid",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "linux_home",
    "3b8f8425-20e0-4f3b-907f-1a25a76f98e8": "linux_srv",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2d": "linux_var",
    "8484680c-9521-48c6-9c11-b0720656f69e": "linux_usr_x86_64",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "linux_root_x86_64",
    "44479540-f297-41b2-9af7-d131d5f0458a": "linux_root_i686",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "linux_root_aarch64",
    "69dad710-2ce4-4e3c-b16c-21a1d49abed3": "linux_root_armv7l",
    "c31c45e6-3f39-412e-80fb-4809c4980599": "linux_root_ppc64le",
    "5eead9a9-fe09-4a1e-a1d7-520d00531306": "linux_root_s390x",
    "72ec70a6-cf74-40e6-bd49-4bda08e8f224": "linux_root_riscv64",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "microsoft_basic_data",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "microsoft_reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "microsoft_recovery",
    "83bd6b9d-7f41-11dc-be0b-001560b84f0f": "freebsd_boot",
    "516e7cb5-6ecf-11d6-8ff8-00022d09712b": "freebsd_swap",
    "516e7cb6-6ecf-11d6-8ff8-00022d09712b": "freebsd_ufs",
    "516e7cba-6ecf-11d6-8ff8-00022d09712b": "freebsd_zfs",
    "6a898cc3-1dd2-11b2-99a6-080020736631": "zfs",
}
"""By GUID (UEFI Specification 5.3.3; UAPI Group, Discoverable Partitions Specification)."""

MBR_TYPES: Mapping[int, str] = {
    0x01: "fat12",
    0x04: "fat16",
    0x06: "fat16",
    0x07: "ntfs_or_exfat",
    0x0B: "fat32",
    0x0C: "fat32",
    0x0E: "fat16",
    0x27: "microsoft_recovery",
    0x41: "prep_boot",
    0x82: "linux_swap",
    0x83: "linux_filesystem",
    0x8E: "linux_lvm",
    0xA5: "freebsd",
    0xA6: "openbsd",
    0xA9: "netbsd",
    0xEF: EFI_SYSTEM,
    0xFD: "linux_raid",
}
"""By the type byte of an MBR's entry."""

_ROOT = "linux_root_"


def architecture_of(partition_type: str) -> str | None:
    """The machine that a root partition of that type is for; ``None`` if the type does not tell."""
    return partition_type.removeprefix(_ROOT) if partition_type.startswith(_ROOT) else None
