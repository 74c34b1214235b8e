"""What may be asked of where bytes shall be."""

from __future__ import annotations

import pytest

from tintype.domain.errors import InvalidPlacementError, StoreNotFoundError
from tintype.domain.placements import checked_copy, checked_placement
from tintype.domain.values import DEFAULT_PLACEMENT, MAX_STORES, Placement

KNOWN = frozenset({"main", "second-1"})


@pytest.mark.parametrize(
    "placement",
    [
        DEFAULT_PLACEMENT,
        Placement(("main", "second-1"), all_must_succeed=True),
        Placement(("second-1",), in_all=True),
        Placement(in_all=True),
    ],
)
def test_what_can_be_followed_is_recorded_as_asked(placement: Placement) -> None:
    assert checked_placement(placement, KNOWN) == checked_placement(placement) == placement


def test_as_many_stores_as_a_request_takes_are_taken() -> None:
    names = tuple(f"s{number}" for number in range(MAX_STORES))
    assert checked_placement(Placement(names)).stores == names


@pytest.mark.parametrize(
    ("stores", "message"),
    [
        (tuple(f"s{number}" for number in range(MAX_STORES + 1)), "33 stores"),
        (("main", "second-1", "main"), "'main' is named twice"),
        (("",), "not a store's name"),
        (("-main",), "not a store's name"),
        (("Main",), "not a store's name"),
        (("main\n",), "not a store's name"),
        (("main", "../etc"), "not a store's name"),
        (("x" * 64,), "not a store's name"),
        (("x" * 1_000_000,), "not a store's name"),
    ],
)
def test_a_placement_that_cannot_be_followed_is_refused(stores: tuple[str, ...], message: str) -> None:
    for known in (None, KNOWN):
        with pytest.raises(InvalidPlacementError, match=message) as caught:
            checked_placement(Placement(stores), known)
        assert len(caught.value.message) < 200


def test_a_store_that_is_not_configured_is_refused_where_the_stores_are_known() -> None:
    with pytest.raises(StoreNotFoundError, match="'third'"):
        checked_placement(Placement(("main", "third"), in_all=True), KNOWN)
    assert checked_placement(Placement(("main", "third"))).stores == ("main", "third")


def test_a_copy_says_where_to() -> None:
    with pytest.raises(InvalidPlacementError, match="needs the names"):
        checked_copy(Placement(all_must_succeed=True), KNOWN)
    assert checked_copy(Placement(in_all=True), KNOWN) == Placement(in_all=True)
    with pytest.raises(StoreNotFoundError):
        checked_copy(Placement(("third",)), KNOWN)
