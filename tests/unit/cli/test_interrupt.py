"""Ctrl-C ends a command at once, whatever it waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from shlex import split

from tests.unit.client.fake_services import FakeServices, operation
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2


def start(*words: str) -> subprocess.Popen[bytes]:
    """The command, in a process of its own.

    What a shell starts in the background ignores Ctrl-C, and so do its children, these tests among them: `env` has the
    command hear it. Done between fork and exec, it would run gRPC's handlers of forks, which abort now and then.
    """
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "tintype.cli", *words],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def interrupt_when(is_time: Callable[[], object], process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """How the process ends, and what it says on standard error."""
    with process:
        deadline = time.monotonic() + 30
        while not is_time() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=30)
        assert process.stderr is not None
        return code, process.stderr.read().decode()


def test_who_waits_no_longer_is_told_which_import_goes_on(services: FakeServices, config: Path) -> None:
    image_id = str(uuid.uuid4())
    services.add_operation(operation(image_id, step=types_pb2.STEP_STAGE))
    process = start(
        *split(f"image create-via-import x --id {image_id} --uri https://example.org/disk --wait"),
        *split("--disk-format raw --container-format bare"),
    )
    waits = pb.WaitOperationRequest
    outcome = interrupt_when(lambda: any(isinstance(request, waits) for request in services.requests), process)

    assert outcome == (130, f"the work on image {image_id} goes on: tintype image watch {image_id}\n")
    assert services.cancelled == []


def test_an_upload_from_a_silent_pipe_ends_and_is_cancelled(services: FakeServices, config: Path) -> None:
    process = start(*split("image upload - --disk-format raw --container-format bare"))

    assert interrupt_when(lambda: services.uploads, process) == (130, "")
    assert services.cancelled == ["upload-0"]
