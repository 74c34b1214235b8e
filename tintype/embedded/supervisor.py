"""The supervisor of an embedded stack: starts it, keeps it running, says where it is, stops it in order."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tintype.adapters.nats.server import NatsServer
from tintype.domain.errors import ConfigurationError, UnavailableError
from tintype.embedded.child import Child, NatsProgram, ServiceProgram
from tintype.embedded.directory import StackDirectory, write_atomically
from tintype.embedded.encryption import prepare_encryption
from tintype.embedded.stack_settings import NATS, SERVICES, StackSettings, stack_settings
from tintype.runtime.child_process import start_child

START_DEADLINE_S = 60.0
LOG_CHECK_INTERVAL_S = 10.0
_EXIT_INTERRUPTED = 130


class Supervisor:
    """Runs one stack in a directory that it holds."""

    def __init__(
        self, directory: StackDirectory, settings: StackSettings, nats_port: int, ready_file: Path | None
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._ready_file = ready_file
        self._stop = asyncio.Event()
        self._is_up = asyncio.Event()
        encryption = settings.encryption
        services = [
            ServiceProgram(
                name,
                settings.endpoints[name],
                directory.settings_file,
                directory.log_file(name),
                settings.environment,
                encryption.ca if encryption else None,
            )
            for name in SERVICES
        ]
        nats = NatsServer(directory.nats, start_child, nats_port, tls=encryption.nats if encryption else None)
        self._nats = Child(NatsProgram(nats), self._changed, _warn)
        self._services = [Child(program, self._changed, _warn) for program in services]

    async def run(self) -> None:
        """Run the stack until SIGTERM or SIGINT; the second one ends it at once.

        Raises:
            ConfigurationError: a part cannot start as it is set up.
            UnavailableError: not all of it became healthy in time.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._interrupt)
        write_atomically(self._directory.settings_file, self._settings.file)
        keepers = [asyncio.create_task(child.keep_running()) for child in (self._nats, *self._services)]
        others = [asyncio.create_task(task) for task in (self._stop.wait(), self._introduce(), self._bound_logs())]
        try:
            await _first((*keepers, *others))
        finally:
            if self._ready_file:
                self._ready_file.unlink(missing_ok=True)
            # Nothing is started again from here on.
            await _cancelled((*keepers, *others))
            # Services drain while the log is still there.
            await asyncio.gather(*(child.program.stop() for child in self._services))
            await self._nats.program.stop()

    def _interrupt(self) -> None:
        if self._stop.is_set():
            os._exit(_EXIT_INTERRUPTED)  # the kernel ends the children with us
        self._stop.set()

    async def _changed(self) -> None:
        children = (self._nats, *self._services)
        if not all(child.is_healthy for child in children):
            return
        pids = {"up": os.getpid(), **{child.program.name: child.pid for child in children}}
        try:
            write_atomically(self._directory.client_file, self._settings.client_file())
            if self._ready_file:
                write_atomically(self._ready_file, json.dumps(self._ready(pids), indent=2))
        except OSError as exc:
            _warn(f"{exc.filename} cannot be written: {exc.strerror}")
        self._is_up.set()

    def _ready(self, pids: Mapping[str, int]) -> dict[str, object]:
        return {
            "directory": str(self._directory.root),
            "client_config": str(self._directory.client_file),
            "endpoints": dict(self._settings.endpoints),
            "pids": dict(pids),
        }

    async def _introduce(self) -> None:
        """Say that the stack is up, and then nothing more."""
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                await self._is_up.wait()
        except TimeoutError:
            missing = [c.program.name for c in (self._nats, *self._services) if not c.is_healthy]
            raise UnavailableError(
                f"not healthy after {START_DEADLINE_S:.0f} s: {', '.join(missing)}; see {self._directory.logs}"
            ) from None
        for name in (NATS, *SERVICES):
            _say(f"{name:<10} {self._settings.endpoints[name]}")
        _say(f"Tintype is up in {self._directory.root}; Ctrl-C stops it. Logs: {self._directory.logs}")
        client_file = shlex.quote(str(self._directory.client_file))
        _say(f"In another terminal:\n  export TINTYPE_CONFIG={client_file}\n  tintype image list")
        await asyncio.Event().wait()

    async def _bound_logs(self) -> None:
        while True:
            with suppress(OSError):  # a full disk must not stop what still runs; the next turn tries again
                await asyncio.to_thread(self._directory.bound_logs)
            await asyncio.sleep(LOG_CHECK_INTERVAL_S)


def run(root: Path, config: Path | None, ready_file: Path | None, *, is_encrypted: bool = False) -> None:
    """Run a stack in ``root`` until it is told to stop; encrypted, its callers have to show a token.

    Raises:
        ConfigurationError: another supervisor is there, a setting is wrong, or the ready file cannot be written.
        UnavailableError: it did not become healthy in time.
    """
    directory = StackDirectory(root)
    with directory.held():
        if ready_file:
            _prepare(ready_file)
        ports = directory.ports((NATS, *SERVICES))
        encryption = prepare_encryption(directory, _user()) if is_encrypted else None
        settings = stack_settings(directory, ports, config, os.environ, encryption)
        asyncio.run(_run(directory, settings, ports[NATS], ready_file))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "operator"


def _prepare(ready_file: Path) -> None:
    """Remove the one of another run, and find out before anything starts whether it can be written."""
    try:
        ready_file.unlink(missing_ok=True)
        tempfile.TemporaryFile(dir=ready_file.parent).close()
    except OSError as exc:
        raise ConfigurationError(f"the ready file {ready_file} cannot be written: {exc.strerror}") from exc


async def _run(directory: StackDirectory, settings: StackSettings, nats_port: int, ready_file: Path | None) -> None:
    await Supervisor(directory, settings, nats_port, ready_file).run()


async def _first(tasks: Iterable[asyncio.Task[object] | asyncio.Task[None]]) -> None:
    """Wait until one ends, and raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _cancelled(tasks: Iterable[asyncio.Task[object] | asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _say(text: str) -> None:
    print(text, flush=True)


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
