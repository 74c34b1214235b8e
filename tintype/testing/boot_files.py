"""Real kernels, ramdisks and bootable ISOs, as `tools/install-system-packages formats` unpacks them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_TIMEOUT_S = 120


class BootFilesMissingError(Exception):
    """A test needs files that are not on this machine."""


def boot_file(pattern: str) -> Path:
    """The one file of Debian's packages that matches ``pattern``.

    Raises:
        BootFilesMissingError: they have not been unpacked; tests that need them fail, and are not skipped.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = sorted((cache / "tintype" / "boot-files").glob(pattern))
    if not found:
        raise BootFilesMissingError(f"no {pattern}: run `tools/install-system-packages formats` first")
    return found[-1]


def run_program(*command: str, stdin: bytes = b"", cwd: Path | None = None) -> bytes:
    """Run a program on files of our own making; what it writes to its standard output."""
    environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": "/nonexistent"}
    result = subprocess.run(
        command, input=stdin, cwd=cwd, env=environment, check=True, capture_output=True, timeout=_TIMEOUT_S
    )
    return result.stdout


def cpio_of(folder: Path) -> bytes:
    """A newc archive of everything below ``folder``, made by cpio."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return run_program("cpio", "-o", "-H", "newc", "--quiet", stdin="\n".join(names).encode() + b"\n", cwd=folder)
