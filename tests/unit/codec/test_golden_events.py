"""Every event as it was ever written is read as the same event for ever.

``tests/golden/events/<token>.v<version>.json`` has the headers, the subject and the hash; ``.bin`` beside it the
payload. Files of released versions never change. For a new event type or version, write its files once:

    python -m tests.unit.codec.test_golden_events
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tintype.codec import cloudevents
from tintype.codec.cloudevents import EVENT_VERSION
from tintype.domain.events import EVENT_TOKENS, NewEvent
from tintype.testing.events import EVERY_EVENT, EventBuilder

GOLDEN = Path(__file__).parents[2] / "golden" / "events"
VERSION = 3
PREVIOUS_HASH = "0123456789abcdef" * 4


def golden_event(token: str) -> NewEvent:
    return EventBuilder().new(EVERY_EVENT[token])


def file_of(token: str) -> Path:
    return GOLDEN / f"{token}.v{EVENT_VERSION}.json"


def write_missing() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for token in EVENT_TOKENS.values():
        path = file_of(token)
        if not path.exists():
            message = cloudevents.encode(golden_event(token), version=VERSION, previous_hash=PREVIOUS_HASH)
            envelope = {"subject": message.subject, "headers": dict(message.headers), "hash": message.hash}
            path.write_text(json.dumps(envelope, indent=2) + "\n")
            path.with_suffix(".bin").write_bytes(message.payload)


@pytest.mark.parametrize("token", EVENT_TOKENS.values())
def test_every_event_type_has_a_golden_file(token: str) -> None:
    assert file_of(token).is_file()
    assert file_of(token).with_suffix(".bin").is_file()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_ever_written_is_read_as_the_same_event(path: Path) -> None:
    envelope, payload = json.loads(path.read_text()), path.with_suffix(".bin").read_bytes()
    read = cloudevents.decode(envelope["subject"], envelope["headers"], payload, position=1)
    assert read.event == golden_event(path.stem.partition(".")[0])
    assert (read.version, read.previous_hash, read.hash) == (VERSION, PREVIOUS_HASH, envelope["hash"])


@pytest.mark.parametrize("token", EVENT_TOKENS.values())
def test_the_bytes_that_are_written_have_not_changed(token: str) -> None:
    envelope, payload = json.loads(file_of(token).read_text()), file_of(token).with_suffix(".bin").read_bytes()
    message = cloudevents.encode(golden_event(token), version=VERSION, previous_hash=PREVIOUS_HASH)
    assert (message.subject, dict(message.headers), message.payload) == (
        envelope["subject"],
        envelope["headers"],
        payload,
    )


if __name__ == "__main__":
    write_missing()
