"""What stores there are, how they are, and what an examination finds: for users who choose one, and for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from tintype.adapters.store_section import StoreSection
from tintype.adapters.stores import Stores
from tintype.domain.access import Caller, require_admin
from tintype.domain.errors import StoreNotFoundError, TintypeError
from tintype.ports.image_store import Finding, ImageStore, StoreSpace

log = structlog.get_logger(__name__)

_SPACE_TIMEOUT_S = 5.0


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

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def all(self) -> Sequence[StoreView]:
        """All stores, the default one first, then by weight and name."""
        names = sorted(self._stores.by_name, key=self._rank)
        return await asyncio.gather(*(self._view(name) for name in names))

    async def examine(self, caller: Caller, name: str) -> Sequence[Finding]:
        """Look at everything about a store that should be known before it is trusted.

        Raises:
            NotPermittedError: the caller is no administrator.
            StoreNotFoundError: there is no store of that name.
            StoreTimeoutError: it did not come to an end.
        """
        require_admin(caller, "examine a store")
        if name not in self._stores.by_name:
            raise StoreNotFoundError(f"store {name[:80]!r} is not configured here")
        return await self._stores.named(name).examine()

    def _rank(self, name: str) -> tuple[bool, int, str]:
        return name != self._stores.default.name, -self._stores.section(name).weight, name

    async def _view(self, name: str) -> StoreView:
        store = self._stores.named(name)
        return StoreView(store, self._stores.section(name), name == self._stores.default.name, await _space_of(store))


async def _space_of(store: ImageStore) -> StoreSpace | None:
    try:
        async with asyncio.timeout(_SPACE_TIMEOUT_S):
            return await store.space()
    except (TintypeError, TimeoutError) as exc:
        log.info("store does not tell its room", store=store.name, error=str(exc) or "no answer in time")
        return None
