"""Servers that are there and do not answer."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_DEADLINE_S = 10.0


def freeze(pid: int) -> None:
    """Stop a process with SIGSTOP, and wait until each of its threads stands still: a signal takes its time."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _DEADLINE_S
    while not all(_stands_still(path) for path in Path(f"/proc/{pid}/task").glob("*/stat")):
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} does not stand still")
        time.sleep(0.001)


def _stands_still(stat: Path) -> bool:
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] in "TZ"
    except FileNotFoundError:  # the thread has ended
        return True
