"""What stores there are, how they are, and what an examination finds: for users who choose one, and for operators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from tintype.adapters.store_section import StoreSection
from tintype.adapters.stores import Stores
from tintype.domain.access import Caller, require_admin
from tintype.domain.errors import StoreNotFoundError, TintypeError
from tintype.ports.image_store import Finding, ImageStore, StoreSpace

log = structlog.get_logger(__name__)

SPACE_TIMEOUT_S = 5.0

SPACE_FRESH_S = 5.0
"""Everybody may list the stores, as often as they like: a store is asked for its room so often at most."""


@dataclass(frozen=True, slots=True)
class StoreView:
    """One store with its settings, and its room where there is such a thing and the store tells it in time."""

    store: ImageStore
    section: StoreSection
    is_default: bool
    space: StoreSpace | None

    @property
    def kind(self) -> str:
        """As `type` in its table says; `memory` of a store that no table is about."""
        return str(getattr(self.section, "type", "memory"))


class StoreListing:
    """Tells of the stores of this deployment."""

    def __init__(
        self,
        stores: Stores,
        *,
        space_timeout_s: float = SPACE_TIMEOUT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores = stores
        self._rooms = {name: _Room(store, space_timeout_s, monotonic) for name, store in stores.by_name.items()}

    async def all(self) -> Sequence[StoreView]:
        """All stores, the default one first, then by weight and name."""
        names = sorted(self._stores.by_name, key=self._rank)
        return await asyncio.gather(*(self._view(name) for name in names))

    def require(self, name: str) -> None:
        """Check that there is a store of that name.

        Raises:
            StoreNotFoundError: there is none.
        """
        if name not in self._stores.by_name:
            raise StoreNotFoundError(f"store {name[:80]!r} is not configured here")

    async def examine(self, caller: Caller, name: str) -> Sequence[Finding]:
        """Look at everything about a store that should be known before it is trusted.

        Raises:
            NotPermittedError: the caller is no administrator.
            StoreNotFoundError: there is no store of that name.
            StoreTimeoutError: it did not come to an end.
        """
        require_admin(caller, "examine a store")
        self.require(name)
        return await self._stores.named(name).examine()

    def _rank(self, name: str) -> tuple[bool, int, str]:
        return name != self._stores.default.name, -self._stores.section(name).weight, name

    async def _view(self, name: str) -> StoreView:
        is_default = name == self._stores.default.name
        space = await self._rooms[name].space()
        return StoreView(self._stores.named(name), self._stores.section(name), is_default, space)


class _Room:
    """What a store says of its room; one asks at a time, and the others get the same answer."""

    def __init__(self, store: ImageStore, timeout_s: float, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._space: StoreSpace | None = None

    async def space(self) -> StoreSpace | None:
        """In bytes, a moment old at most; ``None`` where there is no such thing, or no answer."""
        async with self._lock:
            if self._monotonic() - self._asked_at >= SPACE_FRESH_S:
                self._space = await self._ask()
                self._asked_at = self._monotonic()
            return self._space

    async def _ask(self) -> StoreSpace | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._store.space()
        except (TintypeError, TimeoutError) as exc:
            log.info("store does not tell its room", store=self._store.name, error=str(exc) or "no answer in time")
            return None
