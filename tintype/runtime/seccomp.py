"""A seccomp filter under which a program may start threads, but no process, and may not loosen its own confinement.

It owns the filter's bytes, as bubblewrap's ``--seccomp`` takes them; putting it to use is the matter of
:mod:`tintype.runtime.jail`. RLIMIT_NPROC does not bind root, so the filter is what contains a fork bomb. Nor does a
network namespace contain AF_VSOCK, which leads to the hypervisor and to guests: no socket can be made at all.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass

# linux/bpf_common.h, linux/filter.h: struct sock_filter {u16 code; u8 jt; u8 jf; u32 k}
_LOAD_WORD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _FIRST_ARGUMENT_OFFSET = 0, 4, 16  # struct seccomp_data, little-endian

_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_CLONE_THREAD = 0x0001_0000
_X32_BIT = 0x4000_0000


@dataclass(frozen=True, slots=True)
class _Architecture:
    """One machine's AUDIT_ARCH value and its system call numbers."""

    audit: int
    clone: int
    clone3: int
    denied: Mapping[str, int]


_SHARED = {
    # asm-generic/unistd.h: calls added since Linux 5.1 have one number everywhere
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "pidfd_getfd": 438,
    "mount_setattr": 442,
}  # fmt: skip

_ARCHITECTURES = {
    "x86_64": _Architecture(
        audit=0xC000_003E,
        clone=56,
        clone3=435,
        denied=_SHARED
        | {
            "socket": 41,
            "fork": 57, "vfork": 58, "ptrace": 101, "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166,
            "init_module": 175, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
            "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308,
            "process_vm_readv": 310, "process_vm_writev": 311, "finit_module": 313, "kexec_file_load": 320,
            "bpf": 321, "userfaultfd": 323,
        },
    ),
    "aarch64": _Architecture(
        audit=0xC000_00B7,
        clone=220,
        clone3=435,
        denied=_SHARED
        | {
            "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "unshare": 97, "kexec_load": 104,
            "init_module": 105, "ptrace": 117, "socket": 198, "add_key": 217, "request_key": 218, "keyctl": 219,
            "perf_event_open": 241, "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268,
            "process_vm_readv": 270, "process_vm_writev": 271, "finit_module": 273, "bpf": 280, "userfaultfd": 282,
            "kexec_file_load": 294,
        },
    ),
}  # fmt: skip


def no_new_processes(machine: str | None = None) -> bytes | None:
    """The filter for this machine (or the named one, as ``uname -m``); ``None`` for a machine that is not known.

    A process of another architecture is killed. ``clone3`` answers ENOSYS, since a filter cannot see its flags: the C
    library then uses ``clone``, which is let through for threads. What is denied answers EPERM.
    """
    architecture = _ARCHITECTURES.get(machine or platform.machine())
    if architecture is None:
        return None
    program = [
        _instruction(_LOAD_WORD, _ARCHITECTURE_OFFSET),
        _instruction(_JUMP_EQUAL, architecture.audit, if_true=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD_WORD, _NUMBER_OFFSET),
        _instruction(_JUMP_ANY_BIT, _X32_BIT, if_false=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_JUMP_EQUAL, architecture.clone3, if_false=1),
        _instruction(_RETURN, _ERRNO | errno.ENOSYS),
    ]
    for number in sorted(architecture.denied.values()):
        program += [_instruction(_JUMP_EQUAL, number, if_false=1), _instruction(_RETURN, _ERRNO | errno.EPERM)]
    program += [
        _instruction(_JUMP_EQUAL, architecture.clone, if_false=3),
        _instruction(_LOAD_WORD, _FIRST_ARGUMENT_OFFSET),
        _instruction(_JUMP_ANY_BIT, _CLONE_THREAD, if_true=1),
        _instruction(_RETURN, _ERRNO | errno.EPERM),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _instruction(code: int, operand: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)
