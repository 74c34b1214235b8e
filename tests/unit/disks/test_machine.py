"""The machine that a program is for, by its header."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.disks.machine import HEADER_SIZE, architecture_of_program


def elf(machine: int, width: int = 2, order: int = 1) -> bytes:
    """The beginning of an ELF file."""
    return b"\x7fELF" + bytes([width, order]) + bytes(12) + machine.to_bytes(2, "little" if order == 1 else "big")


def pe(machine: int, at: int = 128) -> bytes:
    """The beginning of a PE file."""
    head = b"MZ".ljust(0x3C, b"\0") + at.to_bytes(4, "little")
    return head.ljust(min(at, HEADER_SIZE), b"\0") + b"PE\0\0" + machine.to_bytes(2, "little")


@pytest.mark.parametrize(
    ("head", "architecture"),
    [
        (elf(62), "x86_64"),
        (elf(183), "aarch64"),
        (elf(21), "ppc64le"),
        (elf(22, order=2), "s390x"),
        (elf(243), "riscv64"),
        (elf(3, width=1), "i686"),
        (elf(62, order=2), None),
        (elf(0xFFFF), None),
        (elf(62)[:19], None),
        (pe(0x8664), "x86_64"),
        (pe(0xAA64), "aarch64"),
        (pe(0x8664, at=0xFFFF_FFFF), None),
        (b"MZ", None),
        (b"#!/bin/sh\n", None),
        (b"", None),
    ],
)
def test_header_names_the_machine(head: bytes, architecture: str | None) -> None:
    assert architecture_of_program(head) == architecture


def test_this_interpreter_is_for_this_machine() -> None:
    with Path(sys.executable).open("rb") as file:
        assert architecture_of_program(file.read(HEADER_SIZE)) == platform.machine()


@given(st.sampled_from([b"", b"\x7fELF", b"MZ"]), st.binary(max_size=256))
def test_any_bytes_do_no_harm(magic: bytes, rest: bytes) -> None:
    architecture_of_program(magic + rest)
