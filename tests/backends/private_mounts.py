"""Mounts that nobody else sees, and that vanish with the process of the tests."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

_CLONE_NEWNS = 0x00020000


def leave_the_mount_namespace() -> None:
    """Give this process a mount namespace of its own; fails the test where that cannot be."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        pytest.fail(f"these tests mount file systems, and need root: {os.strerror(ctypes.get_errno())}")
    mount("--make-rprivate", "/")


def mount(*arguments: str | Path) -> None:
    """Mount, or fail the test."""
    _run("mount", *arguments)


def unmount(path: Path, *, lazily: bool = True) -> None:
    """Unmount; ``lazily`` even while files are open, which is what a killed network leads to."""
    _run("umount", *(["-l"] if lazily else []), path)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
