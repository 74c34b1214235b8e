"""What was asked for, in the names of a deployment."""

from __future__ import annotations

import pytest

from services.importer.placement import first_writable, resolved
from tests.unit.importer.failing_store import FailingStore
from tintype.adapters.store_section import StoreSection
from tintype.adapters.stores import Stores
from tintype.domain.errors import InvalidPlacementError, StoreNotFoundError
from tintype.domain.values import DEFAULT_PLACEMENT, Placement
from tintype.ports.image_store import StoreMode

WEIGHTS = {"main": 1, "light": 1, "heavy": 9, "also-light": 1}


@pytest.fixture
def opened() -> dict[str, FailingStore]:
    return {name: FailingStore(name) for name in WEIGHTS}


@pytest.fixture
def stores(opened: dict[str, FailingStore]) -> Stores:
    sections = {name: StoreSection(weight=weight) for name, weight in WEIGHTS.items()}
    return Stores(opened["main"], opened, sections)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (DEFAULT_PLACEMENT, ("main",)),
        (Placement(("light",)), ("light",)),
        (Placement(in_all=True), ("main", "heavy", "also-light", "light")),
        (Placement(("light",), in_all=True), ("light", "main", "heavy", "also-light")),
    ],
)
def test_what_was_asked_for_is_resolved_to_names_in_their_order(
    stores: Stores, asked: Placement, names: tuple[str, ...]
) -> None:
    once = resolved(stores, asked)
    assert once == Placement(names)
    assert resolved(stores, once) == once


def test_whether_all_must_succeed_is_kept(stores: Stores) -> None:
    assert resolved(stores, Placement(all_must_succeed=True)) == Placement(("main",), all_must_succeed=True)


@pytest.mark.parametrize("name", ["", "x" * 5000, "MAIN", "main ", "../main", "main"])
def test_what_can_be_no_store_or_is_named_twice_is_refused_and_not_repeated_at_length(
    stores: Stores, name: str
) -> None:
    with pytest.raises(InvalidPlacementError) as refused:
        resolved(stores, Placement(("main", name), in_all=True))
    assert len(refused.value.message) < 200


def test_a_store_that_there_is_not_is_refused(stores: Stores) -> None:
    with pytest.raises(StoreNotFoundError):
        resolved(stores, Placement(("main", "elsewhere"), in_all=True))


def test_the_first_store_that_takes_bytes_is_the_first_to_be_written(
    stores: Stores, opened: dict[str, FailingStore]
) -> None:
    wanted = Placement(("light", "heavy", "main"))
    assert first_writable(stores, wanted).name == "light"
    opened["light"].mode = StoreMode.READ_ONLY
    opened["heavy"].is_away = True
    assert first_writable(stores, wanted).name == "main"
    opened["main"].mode = StoreMode.READ_ONLY
    assert first_writable(stores, wanted).name == "light"  # which says what is wrong with it
