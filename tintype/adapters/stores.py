"""The configured stores, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from tintype.adapters.cinder.settings import CinderStoreSettings
from tintype.adapters.decorators.metrics import StoreMetrics, store_metrics
from tintype.adapters.decorators.stack import decorated
from tintype.adapters.decorators.state_watch import OnState, tell_nobody
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.rbd.settings import RbdStoreSettings
from tintype.adapters.s3.settings import S3StoreSettings
from tintype.adapters.store_section import StoreSection
from tintype.adapters.store_settings import StoreSettings
from tintype.adapters.swift.settings import SwiftStoreSettings
from tintype.domain.errors import ConfigurationError, StoreFullError, StoreUnavailableError
from tintype.ports.image_store import ImageStore
from tintype.runtime.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores; new bytes go to ``default`` where nothing else is said."""

    default: ImageStore
    by_name: Mapping[str, ImageStore]
    sections: Mapping[str, StoreSection] = field(default_factory=dict)
    """What the deployment says of each; a store without is as a section's defaults say."""

    def named(self, name: str) -> ImageStore:
        """The store of that name.

        Raises:
            StoreUnavailableError: the deployment has none of that name (any more).
        """
        try:
            return self.by_name[name]
        except KeyError:
            raise StoreUnavailableError(f"store {name!r} is not configured here") from None

    async def check(self) -> None:
        """Find out whether there is a store that works: images are read and written wherever one does.

        Raises:
            StoreUnavailableError: none works; it is what the default store says.
        """
        try:
            await require_answer(self.default)
        except StoreUnavailableError:
            for store in self.by_name.values():
                with suppress(StoreUnavailableError):
                    return await require_answer(store)
            raise

    def section(self, name: str) -> StoreSection:
        """What the deployment says of the store of that name."""
        return self.sections.get(name) or StoreSection()


async def require_answer(store: ImageStore) -> None:
    """Check that a store works, so that it can be believed and read from; a full one does.

    Raises:
        StoreUnavailableError: it does not.
    """
    with suppress(StoreFullError):
        await store.check()


@asynccontextmanager
async def open_stores(
    settings: Mapping[str, StoreSettings],
    default: str,
    *,
    registry: CollectorRegistry | None = None,
    on_state: OnState = tell_nobody,
) -> AsyncIterator[Stores]:
    """Make the stores ready, and end them with the context.

    What they do is counted in ``registry``; ``on_state`` is told of each change of a store's state.

    Raises:
        ConfigurationError: a package that a store needs is not installed, or there is no store named ``default``.
        StoreUnavailableError: a store cannot be made ready.
    """
    async with AsyncExitStack() as stack:
        opened: dict[str, ImageStore] = {}
        metrics = store_metrics(registry or CollectorRegistry())
        for name, section in settings.items():
            store = await open_store(name, section, metrics=metrics, on_state=on_state)
            stack.push_async_callback(store.aclose)
            opened[name] = store
        if default not in opened:
            raise ConfigurationError(f"stores: there is no store named {default!r}")
        yield Stores(opened[default], opened, dict(settings))


async def open_store(
    name: str, settings: StoreSettings, *, metrics: StoreMetrics | None = None, on_state: OnState = tell_nobody
) -> ImageStore:
    """Make one store ready, with all that is around every store; whoever asks for it ends it with ``aclose``.

    Raises:
        ConfigurationError: a package that the store needs is not installed.
        StoreUnavailableError: the store cannot be made ready.
    """
    store = await open_bare_store(name, settings)
    return decorated(store, settings, SystemClock(), metrics or StoreMetrics(CollectorRegistry()), on_state)


async def open_bare_store(name: str, settings: StoreSettings) -> ImageStore:
    """Make the store by itself ready, without deadlines, repetitions and whatever else is around every store.

    Only the packages of the stores that are configured are imported: each kind is an extra of its own.

    Raises:
        ConfigurationError: a package that the store needs is not installed.
        StoreUnavailableError: the store cannot be made ready.
    """
    match settings:
        case FileStoreSettings():
            from tintype.adapters.filesystem.opening import open_file_store

            return await open_file_store(name, settings)
        case S3StoreSettings():
            try:
                from tintype.adapters.s3.store import S3ImageStore
            except ImportError as exc:
                raise ConfigurationError(f"stores.{name}: {exc.name} is not installed: add the extra [s3]") from exc
            return S3ImageStore(name, settings)
        case CinderStoreSettings():
            try:
                from tintype.adapters.cinder.opening import open_cinder
            except ImportError as exc:
                raise ConfigurationError(
                    f"stores.{name}: a store in Cinder needs the extra tintype[cinder]: {exc.name} is missing"
                ) from exc

            return open_cinder(name, settings)
        case RbdStoreSettings():
            from tintype.adapters.rbd.store import RbdImageStore

            images = RbdImageStore(name, settings)
            await images.prepare()
            return images
        case SwiftStoreSettings():
            try:
                from tintype.adapters.swift.store import SwiftImageStore
            except ImportError as exc:
                raise ConfigurationError(f"stores.{name}: {exc.name} is not installed: add the extra [swift]") from exc
            objects = SwiftImageStore(name, settings)
            try:
                await objects.prepare()
            except BaseException:
                await objects.aclose()
                raise
            return objects
