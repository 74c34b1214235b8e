"""Which copy of an image is read first: the order that downloads and direct handover go by."""

from __future__ import annotations

from collections.abc import Iterable

from tintype.adapters.stores import Stores
from tintype.domain.values import BlobRef
from tintype.ports.image_store import StoreMode


def in_reading_order(stores: Stores, refs: Iterable[BlobRef]) -> tuple[BlobRef, ...]:
    """The best copy first: in stores that answer, by the stores' weights, the default store first among equals.

    Copies in stores that are away come last, and not never: what is known of a store may be a moment old.
    """
    return tuple(sorted(refs, key=lambda ref: _rank(stores, ref.store)))


def _rank(stores: Stores, name: str) -> tuple[bool, int, bool, str]:
    store = stores.by_name.get(name)
    is_away = store is None or store.state.mode is StoreMode.AWAY
    return is_away, -stores.section(name).weight, name != stores.default.name, name
