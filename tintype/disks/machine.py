"""Which machine a program is for, by its first bytes: ELF's header, or PE's."""

from __future__ import annotations

from collections.abc import Mapping

HEADER_SIZE = 4096
"""Bytes of a program that are enough."""

_ELF: Mapping[tuple[int, int, int], str] = {
    # (machine, 1 for 32 bits or 2 for 64, 1 for little or 2 for big endian)
    (3, 1, 1): "i686",
    (62, 2, 1): "x86_64",
    (40, 1, 1): "armv7l",
    (183, 2, 1): "aarch64",
    (21, 2, 1): "ppc64le",
    (21, 2, 2): "ppc64",
    (22, 2, 2): "s390x",
    (243, 2, 1): "riscv64",
    (258, 2, 1): "loongarch64",
    (8, 2, 1): "mips64el",
}
"""System V ABI, ELF header: e_machine, EI_CLASS and EI_DATA."""

_PE: Mapping[int, str] = {0x014C: "i686", 0x8664: "x86_64", 0xAA64: "aarch64"}
"""Microsoft, PE Format: machine types."""


def architecture_of_program(head: bytes) -> str | None:
    """The architecture in compute services' words, out of a program's first bytes; ``None`` if it is not known."""
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        machine = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
        return _ELF.get((machine, head[4], head[5]))
    if head[:2] == b"MZ":
        at = int.from_bytes(head[0x3C:0x40], "little")
        if head[at : at + 4] == b"PE\0\0":
            return _PE.get(int.from_bytes(head[at + 4 : at + 6], "little"))
    return None
