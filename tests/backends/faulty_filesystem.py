"""A share whose server misbehaves on demand: a FUSE file system in a process of its own, mounted privately."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backends.frozen import freeze
from tests.backends.private_mounts import unmount

_SERVER = Path(__file__).with_name("faulty_filesystem_server.py")
_START_TIMEOUT_S = 30


class FaultyShare:
    """What is below ``kept`` is served at ``at``, while it is mounted."""

    def __init__(self, directory: Path) -> None:
        self.kept = directory / "kept"
        self.at = directory / "mnt"
        self._rules = directory / "rules.json"
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        for made in (self.kept, self.at):
            made.mkdir()
        self.at.chmod(0)  # as an operator should make a bare mount point
        self.heal()

    def break_(self, *rules: dict[str, Any]) -> None:
        """Misbehave so from the next call on."""
        new = self._rules.with_suffix(".new")
        new.write_text(json.dumps(rules))
        new.rename(self._rules)

    def heal(self) -> None:
        """Behave."""
        self.break_()

    def mount(self) -> None:
        """Serve; fails the test if it does not start."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, _SERVER, self.kept, self.at, self._rules], stdout=log, stderr=log
            )
        end = time.monotonic() + _START_TIMEOUT_S
        while not os.path.ismount(self.at):
            if time.monotonic() > end or self._process.poll() is not None:
                pytest.fail(f"no FUSE file system here: {self._log.read_text(errors='replace')[-500:]}")
            time.sleep(0.02)

    def freeze(self) -> None:
        """Let every call hang."""
        assert self._process is not None
        freeze(self._process.pid)

    def thaw(self) -> None:
        """Answer what hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the server at once; what is mounted answers ENOTCONN."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def unmount(self) -> None:
        """Unmount, whatever uses it."""
        unmount(self.at)

    def aclose(self) -> None:
        """End the server, which ends every call that hangs, and unmount."""
        self.kill()
        subprocess.run(["umount", "-l", self.at], check=False, capture_output=True, timeout=60)
