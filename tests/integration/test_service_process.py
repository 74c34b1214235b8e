"""A service as a process: its arguments, its exit codes, how it gets ready and how it drains."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import tintype

DEADLINE_S = 60
ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio
import sys
from contextlib import AsyncExitStack
from tintype.domain.errors import StoreUnavailableError
from tintype.runtime.service import Service, main
from tintype.runtime.settings import ServiceSettings, Settings

class Own(Settings):
    signer: ServiceSettings = ServiceSettings()

async def build(settings, stack):
    async def idle():
        await asyncio.Event().wait()
    async def crash():
        raise RuntimeError("it broke")
    async def end():
        return None
    async def sick():
        raise StoreUnavailableError("the disk is away")
    mode = sys.argv.pop()
    stack.callback(lambda: print("closed", flush=True))
    background = {"idle": idle, "crash": crash, "end": end}.get(mode, idle)
    return Service(background={"work": background}, health_checks={"store": sick} if mode == "sick" else {})

main(Own, "signer", "A test.", build, sys.argv[1:-1])
"""


def environment() -> dict[str, str]:
    """Ours, without settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TINTYPE_")}
    return {**inherited, "PYTHONPATH": str(ROOT)}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The signer, until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "services.signer", *arguments],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


class Process:
    """The program above, in one of its modes."""

    def __init__(self, directory: Path, mode: str, **variables: str) -> None:
        self.ready = directory / "ready.json"
        program = directory / "program.py"
        program.write_text(PROGRAM)
        command = [sys.executable, str(program), "--ready-file", str(self.ready), mode]
        surroundings = {**environment(), **variables}
        self.process = subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait_ready(self) -> str:
        """Its address, once it answers."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.ready.exists():
            assert self.process.poll() is None, self.ended()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        content = json.loads(self.ready.read_text())
        assert content["pid"] == self.process.pid
        return str(content["address"])

    def ended(self) -> tuple[int, str, str]:
        """Its exit code and what it said, once it has ended."""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts processes that end with the test."""
    started: list[Process] = []

    def start_in(mode: str, **variables: str) -> Process:
        started.append(Process(tmp_path, mode, **variables))
        return started[-1]

    yield start_in
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()


def test_help_documents_settings() -> None:
    answer = run("--help")
    assert answer.returncode == 0
    for name in ("certificate_dir", "TINTYPE_SIGNER__REQUIRE_SIGNATURE", "TINTYPE_NATS__URL", "--check-config"):
        assert name in answer.stdout


def test_check_config_says_ok() -> None:
    answer = run("--check-config", TINTYPE_SIGNER__REQUIRE_SIGNATURE="true")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "ok\n", "")


def test_check_config_says_what_is_wrong_in_one_line() -> None:
    answer = run("--check-config", TINTYPE_SIGNER__REQUIRE_SIGNATURE="perhaps")
    assert answer.returncode == 2
    assert answer.stderr.startswith("signer: signer.require_signature: ")
    assert answer.stderr.count("\n") == 1


def test_service_becomes_healthy_and_drains_on_sigterm(start: Callable[[str], Process]) -> None:
    process = start("idle")
    with grpc.insecure_channel(process.wait_ready()) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    process.process.send_signal(signal.SIGTERM)
    code, out, err = process.ended()
    assert (code, out) == (0, "closed\n")
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert events[-1] == "service stopped"
    assert "service is draining" in events


@pytest.mark.parametrize("mode", ["crash", "end"])
def test_background_task_that_ends_ends_the_process(start: Callable[[str], Process], mode: str) -> None:
    code, out, err = start(mode).ended()
    assert (code, out) == (1, "closed\n")
    last = json.loads(err.splitlines()[-1])
    assert last["level"] == "error"
    assert last["service"] == "signer"


def test_service_is_not_ready_while_a_check_fails(start: Callable[[str], Process]) -> None:
    process = start("sick")
    assert process.process.stderr is not None
    line = process.process.stderr.readline()
    while b"health check failed" not in line:
        assert line, "it ended"
        line = process.process.stderr.readline()
    assert not process.ready.exists()
    process.process.terminate()
    assert process.ended()[0] == 0


PORTS = {"TINTYPE_SIGNER__HEALTH_LISTEN": "127.0.0.1:0", "TINTYPE_SIGNER__METRICS_LISTEN": "127.0.0.1:0"}


def fetch(address: str, path: str) -> tuple[int, str]:
    """Status and body of what an address answers."""
    with closing(http.client.HTTPConnection(address, timeout=DEADLINE_S)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_a_service_that_is_well_says_so_on_ports_of_their_own(start: Callable[..., Process]) -> None:
    process = start("idle", **PORTS)
    process.wait_ready()
    told = json.loads(process.ready.read_text())
    assert fetch(told["metrics"], "/readyz") == (200, "ok\n")
    assert f'tintype_build_info{{version="{tintype.__version__}"}} 1.0' in fetch(told["metrics"], "/metrics")[1]
    with grpc.insecure_channel(told["health"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S).status == 1


def test_a_service_that_is_not_ready_is_alive_and_tells_which_check_fails(start: Callable[..., Process]) -> None:
    process = start("sick", **PORTS)
    assert process.process.stderr is not None
    lines = (json.loads(line) for line in iter(process.process.stderr.readline, b""))
    address = next(line["metrics"] for line in lines if line["event"] == "probes are answered")
    assert next(line for line in lines if line["event"] == "health check failed")
    assert [fetch(address, path)[0] for path in ("/livez", "/readyz")] == [200, 503]
    assert 'tintype_check_ok{check="store"} 0.0' in fetch(address, "/metrics")[1]
