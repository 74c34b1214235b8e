"""`tintype up`: all of it starts, is kept running, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tintype.embedded.stack_settings import SERVICES
from tintype.runtime.jail import detect_sandbox

pytestmark = [
    pytest.mark.nats,
    pytest.mark.qemu,
    pytest.mark.sandbox,
]

DEADLINE_S = 60
ROOT = Path(__file__).parents[2]


class Stack:
    """A supervisor and what it says of its stack."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data's own"
        self.ready_file = directory / "ready.json"
        self.log = directory / "up.log"
        self.process = self.start()

    def start(self, **variables: str) -> subprocess.Popen[bytes]:
        """Another supervisor in the same directory."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TINTYPE_")}
        command = [sys.executable, "-m", "tintype.embedded", "--dir", str(self.data)]
        command += ["--ready-file", str(self.ready_file)]
        environment = {**inherited, "PYTHONPATH": str(ROOT), **variables}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def ready(self, is_new: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The ready file, once it is there and is what the test waits for."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            if self.ready_file.exists():
                content: dict[str, Any] = json.loads(self.ready_file.read_text())
                if is_new(content):
                    return content
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def wait(self) -> int:
        """The supervisor's exit code."""
        return self.process.wait(timeout=DEADLINE_S)


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    """The converter does not start where it cannot confine qemu-img: fail at once, and say why."""
    detect_sandbox()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """One that is gone after the test, and its processes with it."""
    stack = Stack(tmp_path)
    yield stack
    if stack.process.poll() is None:
        stack.process.kill()
    stack.process.wait()


def is_running(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_end(pids: list[int]) -> bool:
    """Whether they all end in time."""
    deadline = time.monotonic() + DEADLINE_S
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_running, pids))


def is_serving(address: str) -> bool:
    """What a service's health says."""
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_stack_starts_tells_where_it_is_and_stops_cleanly(stack: Stack) -> None:
    ready = stack.ready()
    assert set(ready["endpoints"]) == set(ready["pids"]) - {"up"} == {"nats", *SERVICES}
    assert all(is_serving(ready["endpoints"][name]) for name in SERVICES)
    client_file = Path(ready["client_config"])
    assert tomllib.loads(client_file.read_text())["client"] == ready["endpoints"]
    assert stat.S_IMODE(client_file.stat().st_mode) == 0o600
    stack.process.send_signal(signal.SIGTERM)
    assert stack.wait() == 0
    assert not any(is_running(pid) for pid in ready["pids"].values())
    assert not stack.ready_file.exists()
    printed = next(line for line in stack.log.read_text().splitlines() if "TINTYPE_CONFIG=" in line)
    assert shlex.split(printed) == ["export", f"TINTYPE_CONFIG={client_file}"]
    for name in SERVICES:
        last = (stack.data / "logs" / f"{name}.log").read_text().splitlines()[-1]
        assert json.loads(last)["event"] == "service stopped"


@pytest.mark.parametrize("name", ["signer", "nats"])
def test_killed_process_is_started_again_where_it_was(stack: Stack, name: str) -> None:
    before = stack.ready()
    os.kill(before["pids"][name], signal.SIGKILL)
    after = stack.ready(lambda content: content["pids"][name] != before["pids"][name])
    assert after["endpoints"] == before["endpoints"]
    assert is_serving(after["endpoints"]["signer"])
    stack.process.send_signal(signal.SIGINT)
    assert stack.wait() == 0


def test_killed_supervisor_takes_everything_along(stack: Stack) -> None:
    pids = list(stack.ready()["pids"].values())
    stack.process.kill()
    stack.process.wait()
    assert all_end(pids)


def test_second_supervisor_in_the_directory_is_refused(stack: Stack) -> None:
    pids = stack.ready()["pids"]
    second = stack.start()
    assert second.wait(timeout=DEADLINE_S) == 2
    assert f"(process {pids['up']})" in stack.log.read_text()
    assert all(is_running(pid) for pid in pids.values())
    assert stack.ready_file.exists()


def test_ports_are_the_same_the_next_time(stack: Stack) -> None:
    before = stack.ready()["endpoints"]
    stack.process.send_signal(signal.SIGINT)
    assert stack.wait() == 0
    stack.process = stack.start()
    assert stack.ready()["endpoints"] == before


def test_ready_file_that_cannot_be_written_is_refused_before_anything_starts(stack: Stack) -> None:
    stack.ready()
    stack.process.send_signal(signal.SIGTERM)
    assert stack.wait() == 0
    stack.log.write_bytes(b"")
    stack.ready_file = stack.ready_file.parent / "nowhere" / "ready.json"
    stack.process = stack.start()
    assert stack.wait() == 2
    assert stack.log.read_text().startswith(f"tintype up: the ready file {stack.ready_file} cannot be written: ")


def test_wrong_setting_ends_it_with_one_line_that_names_it(stack: Stack) -> None:
    stack.ready()
    stack.process.send_signal(signal.SIGTERM)
    assert stack.wait() == 0
    stack.log.write_bytes(b"")
    stack.process = stack.start(TINTYPE_CONVERTER__OUTPUT_FORMAT="floppy")
    assert stack.wait() == 2
    assert stack.log.read_text().startswith("tintype up: converter: converter.output_format: ")
