"""The configured stores, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tintype.adapters.filesystem.store import FileImageStore
from tintype.domain.errors import ConfigurationError, StoreUnavailableError
from tintype.ports.image_store import ImageStore


class StoreConfiguration(Protocol):
    """What a deployment says about one store."""

    @property
    def type(self) -> str:
        """The kind of store; ``file`` is a directory."""
        ...

    @property
    def path(self) -> Path:
        """The directory of a file store."""
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores; new bytes go to ``default``."""

    default: ImageStore
    by_name: Mapping[str, ImageStore]

    def named(self, name: str) -> ImageStore:
        """The store of that name.

        Raises:
            StoreUnavailableError: the deployment has none of that name (any more).
        """
        try:
            return self.by_name[name]
        except KeyError:
            raise StoreUnavailableError(f"store {name!r} is not configured here") from None


@asynccontextmanager
async def open_stores(configurations: Mapping[str, StoreConfiguration], default: str) -> AsyncIterator[Stores]:
    """Make the stores ready, and end them with the context.

    Raises:
        ConfigurationError: a kind of store is not known, or there is no store of the name ``default``.
        StoreUnavailableError: a directory cannot be made.
    """
    async with AsyncExitStack() as stack:
        opened: dict[str, ImageStore] = {}
        for name, configuration in configurations.items():
            if configuration.type != "file":
                raise ConfigurationError(f"stores.{name}.type: no such kind of store: {configuration.type!r}")
            store = FileImageStore(name, configuration.path)
            stack.push_async_callback(store.aclose)
            await store.prepare()
            opened[name] = store
        if default not in opened:
            raise ConfigurationError(f"stores: there is no store named {default!r}")
        yield Stores(opened[default], opened)
