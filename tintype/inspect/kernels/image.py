"""Linux's boot images of other machines than x86: Image for ARM64 and RISC-V, zImage for ARM, s390, and EFI zboot.

The layouts are those of Linux: Documentation/arch/arm64/booting.rst, Documentation/arch/riscv/boot-image-header.rst,
arch/arm/boot/compressed/head.S, arch/s390/boot/head.S, drivers/firmware/efi/libstub/zboot-header.S.
"""

from __future__ import annotations

from tintype.domain.errors import MalformedImageError
from tintype.domain.values import PropertyValue
from tintype.inspect.kernels.kernel import Kernel, Range, unpack
from tintype.inspect.kernels.pe import machine_of

_WHAT = "the kernel's header"
_MAX_MEMORY_SIZE = 1 << 32
_IS_BIG_ENDIAN = 1
_ARM_ZIMAGE = 0x016F2818
_S390_OFFSET = 0x10008


def arm64_image(head: bytes) -> Kernel | None:
    """An uncompressed kernel for ARM64."""
    if head[56:60] != b"ARM\x64":
        return None
    _, size, flags = unpack("<3Q", head, 8, _WHAT)
    # Images older than Linux 3.17 leave the size at 0.
    return _image(head, "aarch64", size, bool(flags & _IS_BIG_ENDIAN))


def riscv_image(head: bytes) -> Kernel | None:
    """An uncompressed kernel for RISC-V of 64 bits."""
    if head[56:60] != b"RSC\x05":
        return None
    _, size, flags = unpack("<3Q", head, 8, _WHAT)
    return _image(head, "riscv64", size, bool(flags & _IS_BIG_ENDIAN))


def _image(head: bytes, architecture: str, memory_size: int, is_big_endian: bool) -> Kernel:
    if memory_size > _MAX_MEMORY_SIZE:
        raise MalformedImageError(f"the kernel wants {memory_size} bytes of memory for itself")
    facts: dict[str, PropertyValue] = {"aki_efi_stub": head[:2] == b"MZ", "aki_relocatable": True}
    if memory_size:
        facts["aki_memory_size_bytes"] = memory_size
    # Compute services have no name for the big-endian variants.
    return Kernel("Image", None if is_big_endian else architecture, facts, has_banner_within=True)


def arm_zimage(head: bytes) -> Kernel | None:
    """A kernel for ARM of 32 bits that decompresses itself; its start and its end are addresses."""
    if len(head) < 0x30 or unpack("<I", head, 0x24, _WHAT)[0] != _ARM_ZIMAGE:
        return None
    start, end = unpack("<2I", head, 0x28, _WHAT)
    if end <= start:
        raise MalformedImageError("the kernel ends before it begins")
    return Kernel("zImage", "armv7l", {"aki_efi_stub": head[:2] == b"MZ"}, (Range(0, end - start, "the kernel"),))


def s390_image(head: bytes) -> Kernel | None:
    """A kernel for s390x."""
    if head[_S390_OFFSET : _S390_OFFSET + 6] != b"S390EP":
        return None
    return Kernel("bzImage", "s390x")


def zboot(head: bytes) -> Kernel | None:
    """A compressed kernel that UEFI starts, of any machine."""
    if head[:2] != b"MZ" or head[4:8] != b"zimg":
        return None
    offset, length = unpack("<2I", head, 8, _WHAT)
    payload = Range(offset, length, "the kernel's payload")
    facts: dict[str, PropertyValue] = {"aki_efi_stub": True}
    return Kernel("zboot", machine_of(head), facts, (payload,), payload)
