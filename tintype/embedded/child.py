"""One process of a stack: started, asked for its health, started again when it ends, stopped."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tintype.adapters.nats.server import NatsServer
from tintype.domain.errors import ConfigurationError, TintypeError
from tintype.runtime.child_process import start_child, stop_child

HEALTH_POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0
STABLE_S = 20.0
STOP_GRACE_S = 8.0
_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 10.0
_EXIT_CONFIGURATION = 2
_LOG_END_BYTES = 4096
_COMPLAINT_CHARACTERS = 500
_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # the environment's is for the world outside
    # A service that is starting refuses connections; the default waits a second and more before the next one.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)


class Program(Protocol):
    """How one process is started, and how one sees that it is there."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def log_file(self) -> Path:
        """Where its log goes."""
        ...

    async def start(self) -> asyncio.subprocess.Process:
        """Start it.

        Raises:
            TintypeError: it did not start.
        """
        ...

    async def wait_healthy(self) -> None:
        """Return once it answers; may wait for ever."""
        ...

    async def stop(self) -> None:
        """End it in order, within a bound."""
        ...


@dataclass(slots=True)
class NatsProgram:
    """The event log's server."""

    server: NatsServer
    name: str = "nats"

    @property
    def log_file(self) -> Path:
        """Where its log goes."""
        return self.server.log_path

    async def start(self) -> asyncio.subprocess.Process:
        """Start it, and wait until JetStream answers."""
        await self.server.start()
        process = self.server.process
        if process is None:
            raise ConfigurationError("nats-server did not start")
        return process

    async def wait_healthy(self) -> None:
        """It was, when it had started."""

    async def stop(self) -> None:
        """End it."""
        await self.server.stop()


@dataclass(slots=True)
class ServiceProgram:
    """One service, as ``python -m services.NAME``."""

    name: str
    address: str
    settings_file: Path
    log_file: Path
    environment: Mapping[str, str]
    ca: Path | None = None
    _process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        """Start it, with its log behind what it has logged before."""
        # -P: a console script has no working directory on its path, and neither shall its services.
        options = [] if str(Path.cwd()) in sys.path or "" in sys.path else ["-P"]
        command = [sys.executable, *options, "-m", f"services.{self.name}", "--config", str(self.settings_file)]
        with self.log_file.open("ab") as log:
            self._process = await start_child(command, env=self.environment, stdout=log, stderr=log)
        return self._process

    async def wait_healthy(self) -> None:
        """Return once its gRPC health says SERVING."""
        async with self._channel() as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not await _is_serving(stub):  # noqa: ASYNC110  # it happens in another process
                await asyncio.sleep(HEALTH_POLL_S)

    def _channel(self) -> grpc.aio.Channel:
        if self.ca is None:
            return grpc.aio.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        return grpc.aio.secure_channel(self.address, credentials, options=_CHANNEL_OPTIONS)

    async def stop(self) -> None:
        """Let it drain, and end it."""
        if self._process is not None:
            await stop_child(self._process, grace_s=STOP_GRACE_S)

    def last_log_line(self) -> str:
        """The last thing that it said."""
        with self.log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - _LOG_END_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def complaint(self) -> str:
        """What it ended with, where its log says so: the error with its reason; empty where it does not."""
        try:
            told = json.loads(self.last_log_line())
        except ValueError:
            return ""
        if not isinstance(told, dict) or "error" not in told:
            return ""
        return f"{told['error']} [{told.get('reason', '')}]".replace("\n", " ")[:_COMPLAINT_CHARACTERS]


@dataclass(slots=True)
class Child:
    """A program that is kept running. ``pid`` is that of its newest process; ``is_healthy`` is about that one."""

    program: Program
    changed: Callable[[], Awaitable[None]]
    warn: Callable[[str], None]
    pid: int = 0
    is_healthy: bool = False
    _was_healthy: bool = False

    async def keep_running(self) -> None:
        """Start it, and start it again whenever it ends, a little later each time that it does not last.

        Raises:
            ConfigurationError: it cannot be started as it is set up.
        """
        delay_s = _FIRST_DELAY_S
        loop = asyncio.get_running_loop()
        while True:
            started_at = loop.time()
            ended = await self._run_once()
            delay_s = _FIRST_DELAY_S if loop.time() - started_at > STABLE_S else delay_s
            self.warn(f"{self.program.name} {ended}; starting it again (its log: {self.program.log_file})")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    async def _run_once(self) -> str:
        try:
            process = await self.program.start()
        except ConfigurationError:
            raise
        except (TintypeError, OSError) as exc:
            return f"did not start ({exc})"
        self.pid = process.pid
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._tell_when_healthy())
            code = await process.wait()
            watching.cancel()
        self.is_healthy = False
        if code == _EXIT_CONFIGURATION and not self._was_healthy and isinstance(self.program, ServiceProgram):
            raise ConfigurationError(self.program.last_log_line())
        if code < 0:
            return f"ended by signal {-code}"
        complaint = self.program.complaint() if isinstance(self.program, ServiceProgram) else ""
        return f"ended with code {code}: {complaint}" if complaint else f"ended with code {code}"

    async def _tell_when_healthy(self) -> None:
        await self.program.wait_healthy()
        self.is_healthy = self._was_healthy = True
        await self.changed()


async def _is_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
