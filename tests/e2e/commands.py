"""The command `tintype` as a user runs it: a process of its own, which knows what it is told and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.stack import Stack

TIMEOUT_S = 100

Run = Callable[..., subprocess.CompletedProcess[str]]
"""Runs `tintype WORDS…`; ``code`` is how it has to end, ``stdin`` the bytes that it reads."""


def run_tintype(
    directory: Path, *words: str, config: Path | None = None, code: int = 0, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run `tintype WORDS…` in a directory. Without a ``config`` nothing tells it where a service is."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TINTYPE_", "XDG_"))}
    environment |= {"PYTHONPATH": os.getcwd(), "HOME": str(directory)}
    done = subprocess.run(
        [sys.executable, "-m", "tintype.cli", *words],
        env=environment | ({"TINTYPE_CONFIG": str(config)} if config else {}),
        cwd=directory,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def runner(stack: Stack, directory: Path) -> Run:
    """Runs `tintype WORDS…` in a directory, against a stack."""

    def run(*words: str, code: int = 0, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        return run_tintype(directory, *words, config=stack.client_config, code=code, stdin=stdin)

    return run


def answer(run: Run, *words: str, **more: Any) -> Any:
    """What a command answers as JSON."""
    return json.loads(run(*words, "--output", "json", **more).stdout)
