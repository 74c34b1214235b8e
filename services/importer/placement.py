"""Which stores the bytes of an image shall be in: what was asked for, in the names of this deployment."""

from __future__ import annotations

from dataclasses import replace

from tintype.adapters.stores import Stores
from tintype.domain.placements import checked_placement
from tintype.domain.values import Placement
from tintype.ports.image_store import ImageStore, StoreMode


def resolved(stores: Stores, asked: Placement) -> Placement:
    """The same by names alone: the default store where nothing is said, every store where all are asked for.

    Raises:
        StoreNotFoundError: there is none of such a name.
        InvalidPlacementError: it names one twice.
    """
    names = checked_placement(asked, stores.by_name).stores
    if asked.in_all:
        others = sorted(stores.by_name, key=lambda name: (-stores.section(name).weight, name))
        names = (*names, stores.default.name, *others)
    return replace(asked, stores=tuple(dict.fromkeys(names or (stores.default.name,))), in_all=False)


def first_writable(stores: Stores, placement: Placement) -> ImageStore:
    """The first store of a resolved placement that takes bytes now; the very first one where none does."""
    wanted = [stores.named(name) for name in placement.stores]
    return next((store for store in wanted if store.state.mode is StoreMode.READ_WRITE), wanted[0])
