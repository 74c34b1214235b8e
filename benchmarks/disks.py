"""The disks that are moved about: made once for a run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True)
class Disks:
    """One disk of ``size`` bytes: raw, and as a plain qcow2."""

    raw: Path
    qcow2: Path
    size: int


def make_disks(directory: Path, size: int) -> Disks:
    """Write a disk that cannot be compressed away, and its qcow2."""
    raw, qcow2 = directory / "disk.raw", directory / "disk.qcow2"
    with raw.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)]
    subprocess.run(command, check=True)
    return Disks(raw, qcow2, size)


def make_compressible_raw(path: Path, size: int) -> Path:
    """A raw file of ``size`` bytes that compress to half."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB // 2).hex().encode())
    return path


def make_sparse_raw(path: Path, size: int, data: int) -> Path:
    """A raw file of ``size`` bytes, of which the first ``data`` are random."""
    with path.open("wb") as file:
        for _ in range(data // MIB):
            file.write(os.urandom(MIB))
        file.truncate(size)
    return path
