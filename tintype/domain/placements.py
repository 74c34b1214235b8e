"""What may be asked of where an image's bytes shall be, as far as the words themselves tell. Pure."""

from __future__ import annotations

from collections.abc import Collection

from tintype.domain.errors import InvalidPlacementError, StoreNotFoundError
from tintype.domain.values import MAX_STORES, STORE_NAME, Placement


def checked_placement(placement: Placement, known: Collection[str] | None = None) -> Placement:
    """Return the placement if it can be followed; ``known`` are the deployment's stores, where the caller knows them.

    Raises:
        InvalidPlacementError: it names too many stores, one of them twice, or what cannot be a store's name.
        StoreNotFoundError: it names a store that is not among the known ones.
    """
    names = placement.stores
    if len(names) > MAX_STORES:
        raise InvalidPlacementError(f"{len(names)} stores are named; a placement names at most {MAX_STORES}")
    for name in names:
        if not STORE_NAME.fullmatch(name):
            raise InvalidPlacementError(
                f"{name[:80]!r} is not a store's name: 1 to 63 lower-case letters, digits or hyphens"
            )
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise InvalidPlacementError(f"store {twice!r} is named twice")
    if known is not None and (unknown := next((name for name in names if name not in known), None)):
        raise StoreNotFoundError(f"there is no store {unknown!r}")
    return placement


def checked_copy(placement: Placement, known: Collection[str] | None = None) -> Placement:
    """As :func:`checked_placement`, of a copy, which has to say where to.

    Raises:
        InvalidPlacementError: also where it names no store, and does not mean all.
        StoreNotFoundError: as :func:`checked_placement`.
    """
    if not placement.stores and not placement.in_all:
        raise InvalidPlacementError("a copy needs the names of stores, or all of them")
    return checked_placement(placement, known)
