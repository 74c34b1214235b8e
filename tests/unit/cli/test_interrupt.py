"""Ctrl-C ends a command at once, whatever it waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.unit.client.fake_services import FakeServices


def test_an_upload_from_a_silent_pipe_ends_and_is_cancelled(services: FakeServices, config: Path) -> None:
    words = ["image", "upload", "-", "--disk-format", "raw", "--container-format", "bare"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(
        [sys.executable, "-m", "tintype.cli", *words],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        deadline = time.monotonic() + 30
        while not services.uploads and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=30)
        assert process.stderr is not None
        assert process.stderr.read() == b""

    assert code == 130
    assert services.cancelled == ["upload-0"]
