"""PE (Microsoft, PE Format): programs that UEFI starts, unified kernel images among them."""

from __future__ import annotations

from tintype.domain.errors import MalformedImageError
from tintype.inspect.kernels.kernel import Kernel, Range, unpack

_WHAT = "the PE header"
_EFI_SUBSYSTEMS = (10, 11, 12)
_MACHINES = {
    0x8664: "x86_64", 0x14C: "i686", 0xAA64: "aarch64", 0x1C2: "armv7l", 0x5064: "riscv64", 0x6264: "loongarch64",
}  # fmt: skip
_MAX_SECTIONS = 96
"""The limit of Windows' loader."""
_SECTION_SIZE = 40


def pe(head: bytes) -> Kernel | None:
    """A program for UEFI; with a section ``.linux`` a unified kernel image (UAPI Group, UKI specification)."""
    start = _coff_header(head)
    if start is None:
        return None
    _, count, _, _, _, optional_size, _ = unpack("<HHIIIHH", head, start, _WHAT)
    (subsystem,) = unpack("<H", head, start + 20 + 68, _WHAT)
    if subsystem not in _EFI_SUBSYSTEMS:
        return None
    if not 0 < count <= _MAX_SECTIONS:
        raise MalformedImageError(f"the PE file has {count} sections")
    sections = _sections(head, start + 20 + optional_size, count)
    return Kernel(
        kind="uki" if ".linux" in sections else "efi",
        architecture=machine_of(head),
        facts={"aki_efi_stub": True},
        parts=tuple(sections.values()),
        release=sections.get(".uname"),
    )


def machine_of(head: bytes) -> str | None:
    """The machine that a PE file is for; ``None`` if it is none, or for a machine that is not known."""
    start = _coff_header(head)
    return None if start is None else _MACHINES.get(unpack("<H", head, start, _WHAT)[0])


def _coff_header(head: bytes) -> int | None:
    """Where the header behind the signature begins."""
    if head[:2] != b"MZ" or len(head) < 0x40:
        return None
    (offset,) = unpack("<I", head, 0x3C, _WHAT)
    return offset + 4 if head[offset : offset + 4] == b"PE\0\0" else None


def _sections(head: bytes, start: int, count: int) -> dict[str, Range]:
    sections: dict[str, Range] = {}
    for at in range(start, start + count * _SECTION_SIZE, _SECTION_SIZE):
        length, offset = unpack("<2I", head, at + 16, _WHAT)
        name = head[at : at + 8].rstrip(b"\0").decode("ascii", "replace")
        if name == ".linux" and name in sections:
            raise MalformedImageError("the unified kernel image holds several kernels")
        sections[name if name not in sections else f"{name} at {at}"] = Range(offset, length, "a section of the kernel")
    return sections
