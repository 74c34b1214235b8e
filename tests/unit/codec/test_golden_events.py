"""Every event as it was ever written is read as the same event for ever.

``tests/golden/events/<token>.v<version>.json`` has the headers, the subject and the hash; ``.bin`` beside it the
payload. ``<token>.v<version>.<what>.json`` is of the same version: an event with what a later release has added to it,
or one that an earlier release wrote otherwise (:data:`AS_WRITTEN_BEFORE`). Files of released versions never change.
For a new event type, version or addition, write its files once:

    python -m tests.unit.codec.test_golden_events
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tintype.codec import cloudevents
from tintype.codec.cloudevents import EVENT_VERSION
from tintype.domain.events import EVENT_TOKENS, Event, NewEvent
from tintype.testing.events import EVERY_EVENT, VARIANTS, EventBuilder

GOLDEN = Path(__file__).parents[2] / "golden" / "events"
VERSION = 3
PREVIOUS_HASH = "0123456789abcdef" * 4


AS_WRITTEN_BEFORE = {"staged.string-facts"}
"""What no release writes any more, and which is read as the event of that token alone."""

WRITTEN: dict[str, Event] = {**EVERY_EVENT, **VARIANTS}
"""Events that this release writes, by their token, or their token and what it is about them."""


def golden_event(name: str) -> NewEvent:
    return EventBuilder().new(WRITTEN[name.partition(".")[0] if name in AS_WRITTEN_BEFORE else name])


def file_of(name: str) -> Path:
    token, dot, what = name.partition(".")
    return GOLDEN / f"{token}.v{EVENT_VERSION}{dot}{what}.json"


def name_of(path: Path) -> str:
    token, _, *what = path.stem.split(".", 2)
    return ".".join([token, *what])


def write_missing() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        path = file_of(name)
        if not path.exists():
            message = cloudevents.encode(golden_event(name), version=VERSION, previous_hash=PREVIOUS_HASH)
            envelope = {"subject": message.subject, "headers": dict(message.headers), "hash": message.hash}
            path.write_text(json.dumps(envelope, indent=2) + "\n")
            path.with_suffix(".bin").write_bytes(message.payload)


def test_every_event_type_has_a_golden_file() -> None:
    names = {*EVENT_TOKENS.values(), *WRITTEN, *AS_WRITTEN_BEFORE}
    assert {name_of(path) for path in GOLDEN.glob("*.json")} == names
    assert {path.with_suffix(".json") for path in GOLDEN.glob("*.bin")} == set(GOLDEN.glob("*.json"))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_ever_written_is_read_as_the_same_event(path: Path) -> None:
    envelope, payload = json.loads(path.read_text()), path.with_suffix(".bin").read_bytes()
    read = cloudevents.decode(envelope["subject"], envelope["headers"], payload, position=1)
    assert read.event == golden_event(name_of(path))
    assert (read.version, read.previous_hash, read.hash) == (VERSION, PREVIOUS_HASH, envelope["hash"])


@pytest.mark.parametrize("name", WRITTEN)
def test_the_bytes_that_are_written_have_not_changed(name: str) -> None:
    envelope, payload = json.loads(file_of(name).read_text()), file_of(name).with_suffix(".bin").read_bytes()
    message = cloudevents.encode(golden_event(name), version=VERSION, previous_hash=PREVIOUS_HASH)
    assert (message.subject, dict(message.headers), message.payload) == (
        envelope["subject"],
        envelope["headers"],
        payload,
    )


if __name__ == "__main__":
    write_missing()
