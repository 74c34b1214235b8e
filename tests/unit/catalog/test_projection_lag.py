"""How long the tables have been behind the log."""

from __future__ import annotations

from services.catalog.measuring import ProjectionLag


class Tables:
    """Tables at a position, at a time."""

    def __init__(self) -> None:
        self.position, self.now_s = 0, 100.0
        self.lag = ProjectionLag(lambda: self.position, lambda: self.now_s)


def test_tables_that_have_all_of_the_log_are_not_behind() -> None:
    tables = Tables()
    assert tables.lag.seconds() == 0
    tables.position = 5
    tables.lag.note_head(5)
    tables.now_s += 10
    assert tables.lag.seconds() == 0


def test_tables_are_behind_since_the_first_event_that_they_lack_was_seen() -> None:
    tables = Tables()
    tables.lag.note_head(3)
    tables.now_s += 10
    tables.lag.note_head(7)
    tables.now_s += 1
    assert tables.lag.seconds() == 11
    tables.position = 3
    assert tables.lag.seconds() == 1
    tables.position = 7
    assert tables.lag.seconds() == 0


def test_a_log_that_rests_while_the_tables_are_behind_makes_it_no_better() -> None:
    tables = Tables()
    for _ in range(5):
        tables.lag.note_head(3)
        tables.now_s += 10
    assert tables.lag.seconds() == 50


def test_tables_that_stand_still_take_no_memory() -> None:
    tables = Tables()
    for head in range(1, 5000):
        tables.lag.note_head(head)
        tables.now_s += 1
    assert tables.lag.seconds() == 4999
    tables.position = 4000  # beyond all that was noted
    assert tables.lag.seconds() == 0
    tables.lag.note_head(5000)
    tables.now_s += 2
    assert tables.lag.seconds() == 2
