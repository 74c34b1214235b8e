"""ELF (System V ABI, gABI 4.1): kernels as the linker leaves them, such as vmlinux."""

from __future__ import annotations

from dataclasses import dataclass

from tintype.domain.errors import MalformedImageError
from tintype.domain.values import PropertyValue
from tintype.inspect.kernels.kernel import Kernel, Range, unpack

_WHAT = "the ELF header"
_EXECUTABLE, _SHARED = 2, 3
_PT_LOAD, _PT_INTERP = 1, 3
_MAX_SEGMENTS = 128
_MACHINES = {
    3: "i686", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64",
    243: "riscv64", 258: "loongarch64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the fields are and how they are written, for one class and byte order; structs of :mod:`struct`."""

    header: str
    segment: str
    offset_at: int
    size_at: int


def elf(head: bytes) -> Kernel | None:
    """A program that is loaded as it is; what needs a dynamic linker is no kernel."""
    if head[:4] != b"\x7fELF":
        return None
    is_64_bit, order = head[4:5] == b"\2", ">" if head[5:6] == b"\2" else "<"
    if head[4:7] not in (b"\1\1\1", b"\1\2\1", b"\2\1\1", b"\2\2\1"):
        raise MalformedImageError("the ELF file is of an unknown class, byte order or version")
    layout = (
        _Layout(f"{order}HHIQQQIHHHHHH", f"{order}IIQQQQQQ", 2, 5)
        if is_64_bit
        else _Layout(f"{order}HHIIIIIHHHHHH", f"{order}IIIIIIII", 1, 4)
    )
    kind, machine, _, _, table, sections, _, _, entry_size, count, section_size, section_count, _ = unpack(
        layout.header, head, 16, _WHAT
    )
    if kind not in (_EXECUTABLE, _SHARED):
        return None
    if not 0 < count <= _MAX_SEGMENTS or entry_size < (56 if is_64_bit else 32):
        raise MalformedImageError(f"the ELF file has {count} segments, described in {entry_size} bytes each")
    if table + count * entry_size > len(head):
        raise MalformedImageError(f"the ELF file's segments are described at byte {table}, beyond its beginning")
    segments = [unpack(layout.segment, head, table + index * entry_size, _WHAT) for index in range(count)]
    kinds = {segment[0] for segment in segments}
    if _PT_INTERP in kinds or _PT_LOAD not in kinds:
        return None
    parts = [Range(segment[layout.offset_at], segment[layout.size_at], "a segment") for segment in segments]
    parts.append(Range(sections, section_count * section_size, "the section table"))
    facts: dict[str, PropertyValue] = {"aki_relocatable": kind == _SHARED}
    return Kernel("vmlinux", _architecture(machine, order), facts, tuple(parts), has_banner_within=True)


def _architecture(machine: int, order: str) -> str | None:
    name = _MACHINES.get(machine)
    return "ppc64le" if name == "ppc64" and order == "<" else name
