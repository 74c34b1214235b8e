"""The documents say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.domain.events import EVENT_TOKENS
from tools.generate_docs import DOCS, drawn

DOCUMENTS = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_generated_parts_are_up_to_date(path: Path) -> None:
    text = path.read_text()
    assert drawn(text) == text, "run `make docs`"


def test_every_event_is_documented() -> None:
    text = (DOCS / "events.md").read_text()
    missing = [f"`{token}`" for token in EVENT_TOKENS.values() if f"`{token}`" not in text]
    assert missing == []
