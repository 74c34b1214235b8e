"""The Ceph process of one store, as the service sees it: requests with deadlines, and an end for a process that hangs.

A call of librbd cannot be interrupted. One that does not come back within :attr:`CephProcess.deadline_s` costs its
process, and with it every write and read that was open there; the next request starts a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tintype.adapters.rbd.child import frames
from tintype.adapters.rbd.failures import failure
from tintype.domain.errors import ConfigurationError, StoreTimeoutError, StoreUnavailableError

SYSTEM_PYTHON = Path("/usr/bin/python3")
_ROOT = Path(__file__).resolve().parents[3]
# Isolated from the environment's paths: only the system's packages, and behind them the directory of this program.
_BOOTSTRAP = "import sys; sys.path.append(sys.argv.pop(1)); from tintype.adapters.rbd.child.serving import main; main()"
_CALLS_PER_REQUEST = 4
_END_S = 15.0
_SOCKET_BUFFER = 2 * 1024 * 1024  # which Linux doubles, for its own needs
_MISSING_BINDINGS = (
    "Ceph's Python bindings (rados, rbd) are missing for {python}: install python3-rados and python3-rbd, or set "
    "`python` of the store to an interpreter that has them"
)


class CephProcess:
    """Starts the process when it is needed, and ends it with :meth:`aclose`."""

    def __init__(self, store: str, python: Path | None, options: Mapping[str, Any]) -> None:
        self._store = store
        self._python = python or SYSTEM_PYTHON
        self._options = dict(options)
        self._timeout_s = float(options["timeout_s"])
        self._starting = asyncio.Lock()
        self._connection: _Connection | None = None
        self._fsid = ""

    @property
    def fsid(self) -> str:
        """The cluster's id, once it was connected to."""
        return self._fsid

    @property
    def deadline_s(self) -> float:
        """A request makes a few calls in turn, each of which Ceph itself ends after the store's timeout."""
        return self._timeout_s * _CALLS_PER_REQUEST + 2

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._connection.pid if self._connection else None

    async def ask(self, do: str, payload: bytes | memoryview = b"", **fields: Any) -> tuple[frames.Message, bytes]:
        """Have something done by the process that runs, or by a new one.

        Raises:
            TintypeError: its outcome, as :mod:`tintype.adapters.rbd.failures` has it.
        """
        connection = await self._connected()
        return await self._ask(connection, do, payload, fields)

    async def session(self, do: str, **fields: Any) -> tuple[Session, frames.Message]:
        """Open a write or a read; it belongs to the process that opened it."""
        connection = await self._connected()
        answer, _ = await self._ask(connection, do, b"", fields)
        return Session(self, connection, int(answer["session"])), answer

    async def require_bindings(self) -> None:
        """Check that the interpreter has what it needs.

        Raises:
            ConfigurationError: it has not.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                self._python,
                "-I",
                "-c",
                "import rados, rbd",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as exc:
            raise ConfigurationError(f"stores.{self._store}: {_MISSING_BINDINGS.format(python=self._python)}") from exc
        if await process.wait() != 0:
            raise ConfigurationError(f"stores.{self._store}: {_MISSING_BINDINGS.format(python=self._python)}")

    async def aclose(self) -> None:
        """End the process, in order if it can."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _ask(
        self, connection: _Connection, do: str, payload: bytes | memoryview, fields: Mapping[str, Any]
    ) -> tuple[frames.Message, bytes]:
        try:
            async with asyncio.timeout(self.deadline_s):
                message, data = await connection.ask({"do": do, **fields}, payload)
        except TimeoutError:
            connection.kill()
            raise StoreTimeoutError(f"store {self._store!r} did not answer in {self.deadline_s:.0f} s") from None
        except (OSError, EOFError, frames.FrameError) as exc:
            raise StoreUnavailableError(f"store {self._store!r} lost its connection to Ceph") from exc
        if "failure" in message:
            if message["failure"] == "fenced":  # Ceph refuses everything that this process asks from now on
                connection.kill()
            raise failure(self._store, str(message["failure"]), str(message.get("said", "")))
        return message, data

    async def _connected(self) -> _Connection:
        async with self._starting:
            if self._connection is not None and self._connection.is_alive:
                return self._connection
            if self._connection is not None:
                lost, self._connection = self._connection, None
                await lost.aclose()
            connection = await _Connection.start(self._python)
            try:
                answer, _ = await self._ask(connection, "connect", b"", {"options": self._options})
            except BaseException:
                connection.kill()
                await connection.aclose()
                raise
            self._fsid = str(answer["fsid"])
            self._connection = connection
            return connection


class Session:
    """An open write or read in the process that opened it; it is lost when that process is."""

    def __init__(self, process: CephProcess, connection: _Connection, number: int) -> None:
        self._process = process
        self._connection = connection
        self._number = number

    async def ask(self, do: str, payload: bytes | memoryview = b"", **fields: Any) -> tuple[frames.Message, bytes]:
        """Have something done with it.

        Raises:
            TintypeError: its outcome.
        """
        return await self._process._ask(self._connection, do, payload, {"session": self._number, **fields})


class _Connection:
    """A running process and the socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[tuple[frames.Message, bytes]]] = {}
        self._sending = asyncio.Lock()
        self._is_killed = False
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def start(cls, python: Path) -> _Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):  # so that a piece is handed over in one call; the system may allow less
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
            process = await asyncio.create_subprocess_exec(
                python,
                "-I",
                "-c",
                _BOOTSTRAP,
                str(_ROOT),
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours, limit=8 * 1024 * 1024)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not (self._is_killed or self._receiving.done()) and self._process.returncode is None

    async def ask(self, message: frames.Message, payload: bytes | memoryview) -> tuple[frames.Message, bytes]:
        if self._receiving.done():
            raise EOFError
        number = next(self._numbers)
        answer: asyncio.Future[tuple[frames.Message, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with self._sending:
                self._writer.write(frames.encode({**message, "id": number}, len(payload)))
                if payload:
                    self._writer.write(payload)
                await self._writer.drain()
            return await answer
        finally:
            self._waiting.pop(number, None)

    def kill(self) -> None:
        self._is_killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def aclose(self) -> None:
        self._writer.close()  # which the process takes as its end
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        self._receiving.cancel()
        await asyncio.wait([self._receiving])
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _receive(self) -> None:
        try:
            while True:
                message_size, payload_size = frames.lengths(await self._reader.readexactly(frames.LENGTHS.size))
                message = frames.decode(await self._reader.readexactly(message_size))
                payload = await self._reader.readexactly(payload_size) if payload_size else b""
                answer = self._waiting.get(message["id"])
                if answer is not None and not answer.done():
                    answer.set_result((message, payload))
        except (EOFError, OSError, frames.FrameError, KeyError):
            pass
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(EOFError())
