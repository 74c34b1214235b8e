"""Linux for x86: bzImage and zImage (Linux, Documentation/arch/x86/boot.rst)."""

from __future__ import annotations

from tintype.domain.errors import MalformedImageError
from tintype.domain.values import PropertyValue
from tintype.inspect.kernels.kernel import Kernel, Range, unpack

_SECTOR_SIZE = 512
_PARAGRAPH_SIZE = 16
_WHAT = "the kernel's setup header"
_LOADED_HIGH = 1
_IS_64_BIT, _EFI_HANDOVER = 1, 4 | 8
_MAX_BANNER = 512

# Since which version of the protocol a field is there.
_V_SYSTEM_SIZE, _V_RELOCATABLE, _V_PAYLOAD, _V_MEMORY_SIZE, _V_XLOADFLAGS = 0x204, 0x205, 0x208, 0x20A, 0x20C


def x86_image(head: bytes) -> Kernel | None:
    """A kernel with a setup header, of boot protocol 2.00 and later."""
    if head[0x1FE:0x200] != b"\x55\xaa" or head[0x202:0x206] != b"HdrS":
        return None
    (version,) = unpack("<H", head, 0x206, _WHAT)
    if version >> 8 != 2:
        raise MalformedImageError(f"boot protocol {version >> 8}.{version & 0xFF:02} is not known")
    # "If this field is 0, the real value is 4", and the boot sector is not counted.
    setup_size = ((head[0x1F1] or 4) + 1) * _SECTOR_SIZE
    (load_flags,) = unpack("<B", head, 0x211, _WHAT)
    facts: dict[str, PropertyValue] = {
        "aki_boot_protocol": f"{version >> 8}.{version & 0xFF:02}",
        "aki_efi_stub": _has_efi_stub(head),
        **_loading_facts(head, version),
    }
    is_64_bit = version >= _V_XLOADFLAGS and unpack("<H", head, 0x236, _WHAT)[0] & _IS_64_BIT
    return Kernel(
        kind="bzImage" if load_flags & _LOADED_HIGH else "zImage",
        architecture=("x86_64" if is_64_bit else "i686") if version >= _V_XLOADFLAGS else None,
        facts=facts,
        parts=(Range(0, setup_size, "the kernel's setup code"), *_system(head, version, setup_size)),
        payload=_payload(head, version, setup_size),
        banner=_banner(head, setup_size),
    )


def _system(head: bytes, version: int, setup_size: int) -> tuple[Range, ...]:
    if version < _V_SYSTEM_SIZE:
        return ()
    (paragraphs,) = unpack("<I", head, 0x1F4, _WHAT)
    if not paragraphs:
        raise MalformedImageError("the kernel has no protected-mode code")
    # The size is rounded up, and not every program pads the file to it.
    return (Range(setup_size, (paragraphs - 1) * _PARAGRAPH_SIZE + 1, "the kernel's protected-mode code"),)


def _loading_facts(head: bytes, version: int) -> dict[str, PropertyValue]:
    facts: dict[str, PropertyValue] = {}
    if version >= _V_RELOCATABLE:
        facts["aki_relocatable"] = unpack("<B", head, 0x234, _WHAT)[0] == 1
    if version >= _V_MEMORY_SIZE:
        facts["aki_memory_size_bytes"] = unpack("<I", head, 0x260, _WHAT)[0]
    if version >= _V_XLOADFLAGS:
        facts["aki_efi_handover"] = bool(unpack("<H", head, 0x236, _WHAT)[0] & _EFI_HANDOVER)
    return facts


def _payload(head: bytes, version: int, setup_size: int) -> Range | None:
    if version < _V_PAYLOAD:
        return None
    offset, length = unpack("<2I", head, 0x248, _WHAT)
    if not length:
        return None
    (paragraphs,) = unpack("<I", head, 0x1F4, _WHAT)
    if offset + length > paragraphs * _PARAGRAPH_SIZE:
        raise MalformedImageError("the kernel's payload lies outside of its protected-mode code")
    return Range(setup_size + offset, length, "the kernel's payload")


def _banner(head: bytes, setup_size: int) -> str:
    """The version's text; its pointer is valid only within the setup code."""
    (pointer,) = unpack("<H", head, 0x20E, _WHAT)
    start = pointer + _SECTOR_SIZE
    if not pointer or start >= setup_size:
        return ""
    return head[start : min(start + _MAX_BANNER, setup_size)].partition(b"\0")[0].decode("utf-8", "replace")


def _has_efi_stub(head: bytes) -> bool:
    (offset,) = unpack("<I", head, 0x3C, _WHAT)
    return head[:2] == b"MZ" and head[offset : offset + 4] == b"PE\0\0"
