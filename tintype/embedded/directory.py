"""The directory of an embedded stack: what lies where, whose it is right now, and which ports it keeps."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tintype.domain.errors import ConfigurationError

MAX_LOG_BYTES = 16 * 1024 * 1024
LOOPBACK = "127.0.0.1"
_COPY_BYTES = 1024 * 1024


class StackDirectory:
    """One directory with all that a stack keeps. Nobody but its owner may read it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.nats = self.root / "nats"
        self.store = self.root / "store"
        self.keys = self.root / "keys"
        self.logs = self.root / "logs"
        self.tls = self.root / "tls"
        self.token_file = self.root / "token"
        self.tokens_file = self.root / "tokens.toml"
        self.settings_file = self.root / "settings.toml"
        self.client_file = self.root / "client.toml"
        self._ports_file = self.root / "ports.json"
        self._lock_file = self.root / "lock"

    def log_file(self, name: str) -> Path:
        """Where a service's log goes."""
        return self.logs / f"{name}.log"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the directory, and keep every other supervisor out of it while the context lasts.

        Raises:
            ConfigurationError: another one is in it, or it cannot be made.
        """
        try:
            for directory in (self.root, self.nats, self.store, self.logs):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise ConfigurationError(f"{self.root} cannot be used: {exc.strerror}") from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(descriptor, 32, 0).decode(errors="replace")
                raise ConfigurationError(f"another `tintype up` (process {owner}) runs in {self.root}") from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def ports(self, names: Iterable[str]) -> dict[str, int]:
        """A free port for each name, the same as last time where it is still free."""
        remembered = self._remembered_ports()
        chosen: dict[str, int] = {}
        with ExitStack() as bound:  # all at once, so that no port is chosen twice
            for name in names:
                listener = _bound(remembered.get(name, 0)) or _bound(0)
                if listener is None:
                    raise ConfigurationError(f"no port is free on {LOOPBACK}")
                bound.enter_context(listener)
                chosen[name] = listener.getsockname()[1]
        write_atomically(self._ports_file, json.dumps(chosen))
        return chosen

    def bound_logs(self) -> None:
        """Keep each log below its bound: what is too long becomes ``NAME.log.1``, which replaces the one before.

        The services hold their log open, so it is copied and emptied; a line that is written meanwhile may be lost.
        """
        for path in (*self.logs.glob("*.log"), *self.nats.glob("*.log")):
            if path.stat().st_size > MAX_LOG_BYTES:
                _copy(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)

    def _remembered_ports(self) -> dict[str, int]:
        try:
            content = json.loads(self._ports_file.read_text())
        except (OSError, ValueError):
            return {}
        entries = content.items() if isinstance(content, dict) else ()
        return {name: port for name, port in entries if isinstance(port, int) and 0 < port < 65536}


def write_atomically(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Write a file, whole or not at all; only its owner may read it, unless ``mode`` says otherwise."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    partial.replace(path)


def _bound(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As the servers do: a port whose last connections are still closing is free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(_COPY_BYTES):
            writer.write(piece)
