"""What the fault suite asks of the system beneath a store: to be broken in every way that it can be, and mended."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tintype.ports.image_store import ImageStore


class CannotBeBrokenError(Exception):
    """This system cannot be broken in this way; the message says why, for the table of docs/reliability.md."""


class StoreBackend(Protocol):
    """A running system with one place for images in it. Every method either does it, or raises CannotBeBrokenError."""

    @property
    def name(self) -> str:
        """The kind of store, as the table names it: ``file``, ``nfs``, ``s3-swift``, ``s3-rgw``, ``swift``, ``rbd``."""
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
