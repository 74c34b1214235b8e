"""Whether there is a store that works."""

from __future__ import annotations

import pytest

from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.stores import Stores
from tintype.domain.errors import StoreFullError, StoreTimeoutError, StoreUnavailableError, TintypeError
from tintype.testing.clock import FakeClock


class Checked(MemoryImageStore):
    """A store whose check ends so."""

    def __init__(self, name: str, error: TintypeError | None) -> None:
        super().__init__(name, FakeClock())
        self.error = error

    async def check(self) -> None:
        if self.error:
            raise self.error


def stores(first: TintypeError | None, second: TintypeError | None) -> Stores:
    opened = {name: Checked(name, error) for name, error in (("first", first), ("second", second))}
    return Stores(opened["first"], opened)


AWAY, FULL = StoreUnavailableError("away"), StoreFullError("full")


@pytest.mark.parametrize(("first", "second"), [(None, AWAY), (AWAY, None), (FULL, AWAY), (AWAY, FULL), (FULL, FULL)])
async def test_one_store_that_answers_is_enough_and_a_full_one_does(
    first: TintypeError | None, second: TintypeError | None
) -> None:
    await stores(first, second).check()


async def test_where_none_answers_the_default_store_says_why() -> None:
    with pytest.raises(StoreTimeoutError):
        await stores(StoreTimeoutError("late"), AWAY).check()
