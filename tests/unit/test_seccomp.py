"""The system call filter is well formed for each machine that is known."""

from __future__ import annotations

import struct

import pytest

from tintype.runtime.seccomp import no_new_processes

LOAD, RETURN = 0x20, 0x06
JUMPS = (0x15, 0x45)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_path_through_the_filter_ends_in_a_verdict(machine: str) -> None:
    program = no_new_processes(machine)
    assert program is not None
    instructions = list(struct.iter_unpack("<HBBI", program))
    for index, (code, if_true, if_false, _) in enumerate(instructions):
        assert code in (LOAD, RETURN, *JUMPS)
        assert index + 1 + max(if_true, if_false) < len(instructions) or code == RETURN
    assert instructions[-1][0] == RETURN


@pytest.mark.parametrize(
    ("machine", "architecture", "number", "verdict"),
    [
        ("x86_64", 0xC000003E, 0, 0x7FFF0000),  # read
        ("x86_64", 0xC000003E, 57, 0x00050001),  # fork: EPERM
        ("x86_64", 0xC000003E, 41, 0x00050001),  # socket: EPERM
        ("x86_64", 0xC000003E, 435, 0x00050026),  # clone3: ENOSYS
        ("x86_64", 0xC000003E, 56, 0x00050001),  # clone without CLONE_THREAD
        ("x86_64", 0x40000003, 0, 0x80000000),  # i386: killed
        ("x86_64", 0xC000003E, 0x40000000, 0x80000000),  # x32: killed
        ("aarch64", 0xC00000B7, 63, 0x7FFF0000),  # read
        ("aarch64", 0xC00000B7, 198, 0x00050001),  # socket: EPERM
        ("aarch64", 0xC00000B7, 220, 0x00050001),  # clone without CLONE_THREAD
    ],
)
def test_filter_decides(machine: str, architecture: int, number: int, verdict: int) -> None:
    assert evaluate(machine, number, architecture, first_argument=0x11) == verdict


def test_threads_may_be_started() -> None:
    assert evaluate("x86_64", 56, 0xC000003E, first_argument=0x3D0F00) == 0x7FFF0000
    assert evaluate("aarch64", 220, 0xC00000B7, first_argument=0x3D0F00) == 0x7FFF0000


def test_there_is_no_filter_for_a_machine_that_is_not_known() -> None:
    assert no_new_processes("vax") is None


def evaluate(machine: str, number: int, architecture: int, *, first_argument: int) -> int:
    """Run the filter as the kernel does."""
    program = no_new_processes(machine)
    assert program is not None
    data = struct.pack("<IIQQ", number, architecture, 0, first_argument)
    instructions = list(struct.iter_unpack("<HBBI", program))
    position, accumulator = 0, 0
    while True:
        code, if_true, if_false, operand = instructions[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x15:
                position += if_true if accumulator == operand else if_false
            case 0x45:
                position += if_true if accumulator & operand else if_false
            case _:
                return int(operand)
