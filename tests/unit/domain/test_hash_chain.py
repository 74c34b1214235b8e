"""Whatever is taken out of a history, put into it or changed in it breaks its chain."""

from __future__ import annotations

import dataclasses

import pytest

from tintype.domain.errors import LogCorruptError
from tintype.domain.hash_chain import require_chain
from tintype.testing.events import EventBuilder, an_image_id

HISTORY = EventBuilder().recorded()


def test_a_whole_history_is_a_chain() -> None:
    require_chain(HISTORY)
    require_chain([])


@pytest.mark.parametrize("missing", range(len(HISTORY) - 1))
def test_a_missing_event_is_found(missing: int) -> None:
    with pytest.raises(LogCorruptError, match="gap"):
        require_chain(HISTORY[:missing] + HISTORY[missing + 1 :])


@pytest.mark.parametrize("index", range(1, len(HISTORY)))
def test_a_changed_predecessor_is_found(index: int) -> None:
    changed = list(HISTORY)
    changed[index - 1] = dataclasses.replace(changed[index - 1], hash="0" * 64)
    with pytest.raises(LogCorruptError):
        require_chain(changed)


def test_a_repeated_event_is_found() -> None:
    with pytest.raises(LogCorruptError):
        require_chain([HISTORY[0], HISTORY[0]])


def test_another_images_event_is_found() -> None:
    foreign = EventBuilder(an_image_id("other")).recorded()[1]
    joined = dataclasses.replace(foreign, previous_hash=HISTORY[0].hash, position=2)
    with pytest.raises(LogCorruptError):
        require_chain([HISTORY[0], joined])


def test_events_out_of_the_logs_order_are_found() -> None:
    with pytest.raises(LogCorruptError):
        require_chain([HISTORY[0], dataclasses.replace(HISTORY[1], position=1)])
