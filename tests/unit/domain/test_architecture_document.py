"""The documents that are drawn from the code say what the code says."""

from __future__ import annotations

from pathlib import Path

from tintype.domain.events import EVENT_TOKENS
from tools.draw_state_diagram import state_diagram

DOCS = Path(__file__).parents[3] / "docs"


def test_the_state_diagram_is_the_one_of_the_transition_table() -> None:
    assert state_diagram() in (DOCS / "architecture.md").read_text()


def test_every_event_is_documented() -> None:
    text = (DOCS / "events.md").read_text()
    missing = [f"`{token}`" for token in EVENT_TOKENS.values() if f"`{token}`" not in text]
    assert missing == []
