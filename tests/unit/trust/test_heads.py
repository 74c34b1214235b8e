"""The root over the heads of all chains: the form that docs/log-integrity.md writes down."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import pytest

from tintype.domain.errors import LogCorruptError
from tintype.domain.events import RecordedEvent
from tintype.testing.events import EventBuilder, an_image_id
from tintype.trust.heads import Heads, merkle_root
from tools.generate_docs import DOCS

VECTORS = json.loads((DOCS / "log-integrity-vectors.json").read_text())


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word, over hashes of leaves."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def histories(*names: str) -> list[RecordedEvent]:
    """The events of some images, one image behind the other."""
    found: list[RecordedEvent] = []
    for name in names:
        found += EventBuilder(an_image_id(name)).recorded(position=len(found) + 1)
    return found


def heads_of(events: Sequence[RecordedEvent]) -> Heads:
    heads = Heads()
    for event in events:
        heads.add(event)
    return heads


@pytest.mark.parametrize("count", [*range(18), 255, 256, 257])
def test_the_root_is_that_of_rfc_6962(count: int) -> None:
    leaves = [hashlib.sha256(b"%d" % index).digest() for index in range(count)]

    assert merkle_root(leaves) == tree_hash(leaves)


@pytest.mark.parametrize("vector", VECTORS["trees"], ids=lambda vector: str(len(vector["heads"])))
def test_the_vectors_hold(vector: dict[str, object]) -> None:
    """As another implementation would read them: nothing but the vectors, hashlib and the document."""
    leaves = []
    heads = vector["heads"]
    assert isinstance(heads, list)
    for head in sorted(heads, key=lambda head: head["image_id"]):
        text = b"\x00tintype.head.v1\n" + head["image_id"].encode() + head["version"].to_bytes(8, "big")
        leaves.append(hashlib.sha256(text + bytes.fromhex(head["hash"])).digest())
        assert leaves[-1].hex() == head["leaf"]
    assert tree_hash(leaves).hex() == vector["root"]


def test_the_hashes_of_events_are_those_of_the_vectors() -> None:
    """As another implementation would compute them."""
    previous = ""
    for vector in VECTORS["events"]:
        headers = sorted(vector["headers"].items())
        parts = [b"tintype.event.v1\n", len(headers).to_bytes(8, "big")]
        for text in [*(text for header in headers for text in header)]:
            parts += [len(text).to_bytes(8, "big"), text.encode("ascii")]
        payload = bytes.fromhex(vector["payload"])
        parts += [len(payload).to_bytes(8, "big"), payload]
        assert hashlib.sha256(b"".join(parts)).hexdigest() == vector["hash"]
        assert vector["headers"].get("ce-prevhash", "") == previous
        previous = vector["hash"]
    (first,) = VECTORS["log"]["images"][:1]
    assert [event.hash for event in histories(first)[:3]] == [vector["hash"] for vector in VECTORS["events"]]


def test_the_state_of_a_log_is_that_of_the_vectors() -> None:
    names = VECTORS["log"]["images"]

    state = heads_of(histories(*names)).state()

    assert state.root == VECTORS["log"]["root"]
    assert (state.position, state.events, state.images) == (7 * len(names), 7 * len(names), len(names))


def test_the_order_of_the_images_in_the_log_does_not_matter_to_the_root() -> None:
    one, other, third = (EventBuilder(an_image_id(name)).recorded() for name in ("one", "other", "third"))
    mixed = list(chain(one, other, third))
    random.Random(7).shuffle(mixed)
    mixed.sort(key=lambda event: event.version)
    placed = [replace(event, position=index) for index, event in enumerate(mixed, 1)]

    assert heads_of(placed).state().root == heads_of(histories("third", "one", "other")).state().root


@pytest.mark.parametrize("change", ["hash", "version", "image", "missing image", "missing event"])
def test_whatever_changes_changes_the_root(change: str) -> None:
    events = histories("one", "two")
    before = heads_of(events).state().root
    last = events[-1]
    changed = Heads()
    match change:
        case "hash":
            events[-1] = replace(last, hash="00" * 32)
        case "version":
            events[-1] = replace(last, version=last.version + 1)
        case "image":
            events[-1] = replace(last, event=replace(last.event, image_id=an_image_id("three")))
        case "missing image":
            events = histories("one")
        case "missing event":
            events.pop()
    for event in events:
        changed.replace(event)

    assert changed.state().root != before


@pytest.mark.parametrize("fault", ["version", "hash", "position", "first version", "first hash"])
def test_an_event_that_does_not_follow_is_refused_with_its_position(fault: str) -> None:
    first, second, *_ = EventBuilder().recorded()
    heads = Heads()
    if not fault.startswith("first"):
        heads.add(first)
    wrong = {
        "version": replace(second, version=3),
        "hash": replace(second, previous_hash="ab" * 32),
        "position": replace(second, position=1),
        "first version": second,
        "first hash": replace(first, previous_hash="ab" * 32),
    }[fault]

    before = (heads.position, heads.events, heads.images)
    with pytest.raises(LogCorruptError) as caught:
        heads.add(wrong)

    assert caught.value.position == wrong.position
    assert (heads.position, heads.events, heads.images) == before
