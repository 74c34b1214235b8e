"""What the fault suite asks of the system beneath a store: to be broken in every way that it can be, and mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tintype.ports.image_store import ImageStore


class CannotBeBrokenError(Exception):
    """This system cannot be broken in this way; the message says why, for the table of docs/reliability.md."""


@dataclass(frozen=True, slots=True)
class Told:
    """The reasons that a fault may be told by in one system, and why these, for whoever doubts them."""

    reasons: frozenset[str]
    why: str

    @classmethod
    def by(cls, *reasons: str, why: str) -> Told:
        """Any of the reasons."""
        return cls(frozenset(reasons), why)


ANY_SYSTEM: dict[str, Told] = {
    "a stored bit changed": Told.by("BLOB_DAMAGED", why="the digest in the log is another one"),
    "a name that leads out": Told.by("INVALID_IDENTIFIER", why="a key is parsed before a store is asked"),
}
"""What every system is to tell: the store does not matter."""

SERVER: dict[str, Told] = {
    **ANY_SYSTEM,
    "slow: 1 byte/s": Told.by("STORE_TIMEOUT", why="a call ends by its deadline, though bytes go on trickling"),
    "hanging": Told.by("STORE_TIMEOUT", why="a call ends by its deadline"),
    "wrong credentials": Told.by("STORE_ACCESS_DENIED", why="the server says so"),
    "missing container, pool, bucket or directory": Told.by("STORE_MISSING", why="the server says so"),
}
"""What a system that is a server of its own tells, unless it says otherwise."""


class StoreBackend(Protocol):
    """A running system with one place for images in it. Every method either does it, or raises CannotBeBrokenError."""

    @property
    def name(self) -> str:
        """The kind of store, as the table names it: ``file``, ``nfs``, ``s3-swift``, ``s3-rgw``, ``swift``, ``rbd``."""
        ...

    @property
    def told(self) -> Mapping[str, Told]:
        """What it is to tell of each fault that it can have, by the fault's name in the table."""
        ...

    async def open(self) -> ImageStore:
        """A store on it as a service would open it, with the decorators of the settings, and short deadlines."""
        ...

    def settings_file(self, directory: Path) -> str:
        """The table ``[stores.main]`` in TOML, for a service of its own process; files that it needs go there."""
        ...

    async def open_with_wrong_credentials(self) -> ImageStore:
        """A store whose user or key the system does not know."""
        ...

    async def open_with_missing_place(self) -> ImageStore:
        """A store in a bucket, container, pool or directory that is not there."""
        ...

    async def kill(self) -> None:
        """End the system at once, as a power failure does."""
        ...

    async def start(self) -> None:
        """Start it again after :meth:`kill`, with what it had kept."""
        ...

    async def freeze(self) -> None:
        """Let it hang: connections stay open, and nothing answers."""
        ...

    async def thaw(self) -> None:
        """Let it go on."""
        ...

    async def slow_down(self, bytes_s: int) -> None:
        """Let no more than so many bytes a second pass."""
        ...

    async def speed_up(self) -> None:
        """End :meth:`slow_down`."""
        ...

    async def fill(self) -> None:
        """Leave no room."""
        ...

    async def relieve(self) -> None:
        """End :meth:`fill`."""
        ...

    async def corrupt(self, key: str) -> None:
        """Change one bit of what is committed under ``key``, behind the store's back."""
        ...

    async def remains(self) -> list[str]:
        """Names of all that is in it now, whatever it belongs to; empty when nothing is left behind."""
        ...

    async def aclose(self) -> None:
        """End it, and remove what it kept."""
        ...
