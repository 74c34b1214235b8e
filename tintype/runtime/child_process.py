"""Child processes that cannot outlive their parent, not even when that is killed.

Owns how a child is bound to its parent. Does not own when it is started again: that is the supervisor's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import IO

# prctl(2): PR_SET_PDEATHSIG is 1. It survives execve of a program that is not set-user-ID. Between fork and prctl the
# parent may die already, and nobody would be told: hence the look at getppid. Code between fork and exec
# (``preexec_fn``) is not safe beside threads, so a fresh interpreter does this, and becomes the program.
_BIND_AND_EXEC = f"""
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, {int(signal.SIGKILL)}, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl")
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


async def start_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> asyncio.subprocess.Process:
    """Start a program that the kernel kills (SIGKILL) as soon as this process is gone, however it went.

    The child gets its own process group, so that Ctrl-C in a terminal reaches the parent alone, which then stops its
    children in order. Linux binds a child to the *thread* that started it: call this from an event loop that lives as
    long as the process does, which in practice is the main thread's. ``env`` is the child's whole environment; ``None``
    hands on this one's. Where the program cannot be executed, the process ends with code 1.

    Raises:
        OSError: no process could be started.
    """
    return await asyncio.create_subprocess_exec(
        *bound(argv),
        env=None if env is None else dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def bound(argv: Sequence[str]) -> list[str]:
    """``argv`` as :func:`start_child` runs it, for whoever starts the child in another way."""
    return [sys.executable, "-I", "-S", "-c", _BIND_AND_EXEC, str(os.getpid()), *argv]


async def stop_child(process: asyncio.subprocess.Process, *, grace_s: float) -> int:
    """Ask a child to end (SIGTERM), kill it after ``grace_s`` seconds, and answer its exit code."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                return await process.wait()
        except TimeoutError:
            process.kill()
    return await process.wait()
