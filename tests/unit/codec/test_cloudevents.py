"""Events as messages: what is written is read again, whatever users put into it; anything else is refused."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.codec import cloudevents
from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import EventTooLargeError, EventTypeUnknownError, InvalidArgumentError, LogCorruptError
from tintype.domain.events import (
    EVENT_TOKENS,
    ConversionSkipped,
    CopyDamaged,
    CopyHealed,
    CopyRemoved,
    CopyRequested,
    Event,
    EventContext,
    FailedStore,
    Failure,
    ImageAttested,
    ImageConverted,
    ImageCreated,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImagePurged,
    ImageRestored,
    ImageStaged,
    ImageStepFailed,
    ImageUpdated,
    ImageVerified,
    ImportMethod,
    ImportPlugin,
    ImportRequested,
    ImportSource,
    NewEvent,
    Origin,
    SignedChecksums,
    SkipReason,
    StagePurpose,
    Step,
    Verdict,
    Verification,
    VerificationEvidence,
)
from tintype.domain.values import (
    DIGEST_ALGORITHMS,
    Blob,
    BlobRef,
    CommandId,
    ContainerFormat,
    Digest,
    DiskFormat,
    Fact,
    GuestDigest,
    ImageId,
    OperationId,
    Placement,
    ProjectId,
    Received,
    Visibility,
)
from tintype.testing.events import CREATED, EventBuilder

# --- strategies -------------------------------------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8"), max_size=40)
header_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=100)
size = st.integers(0, 2**63 - 1)
operation = st.uuids().map(lambda value: OperationId(str(value)))
digest = st.sampled_from(sorted(DIGEST_ALGORITHMS)).flatmap(
    lambda name: st.binary(min_size=DIGEST_ALGORITHMS[name], max_size=DIGEST_ALGORITHMS[name]).map(
        lambda value: Digest(name, value.hex())
    )
)
value = text | st.booleans() | st.integers(-(2**63), 2**63 - 1)
facts = st.dictionaries(text, st.builds(Fact, value, text), max_size=5)
disk_digest = st.binary(min_size=32, max_size=32).map(lambda value: GuestDigest(f"guest-disk-v1:{value.hex()}"))
ref = st.builds(BlobRef, text, text)
blob = st.builds(
    Blob,
    ref,
    size,
    st.dictionaries(text, text),
    st.sampled_from(DiskFormat),
    st.none() | size,
    facts,
    st.none() | disk_digest,
)
received = st.builds(Received, size, st.dictionaries(text, text, max_size=3), text)
attributes = st.builds(
    ImageAttributes,
    name=text,
    visibility=st.sampled_from(Visibility),
    disk_format=st.none() | st.sampled_from(DiskFormat),
    container_format=st.none() | st.sampled_from(ContainerFormat),
    min_disk=size,
    min_ram=size,
    protected=st.booleans(),
    hidden=st.booleans(),
    tags=st.lists(text, max_size=4).map(tuple),
    properties=st.dictionaries(text, value, max_size=5),
    overrides=st.dictionaries(text, value, max_size=5),
)
texts = st.lists(text, max_size=4).map(tuple)

refs = st.lists(ref, max_size=3).map(tuple)
failure = st.builds(Failure, text, text, text, st.booleans(), st.dictionaries(text, text, max_size=3))
failed_stores = st.lists(st.builds(FailedStore, text, failure), max_size=3).map(tuple)
placement = st.builds(Placement, texts, st.booleans(), st.booleans())
moment = st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds

PAYLOADS: dict[type[Event], st.SearchStrategy[Event]] = {
    ImageCreated: st.builds(ImageCreated, attributes),
    ImageUpdated: st.builds(ImageUpdated, attributes, texts),
    ImportRequested: st.builds(
        ImportRequested,
        operation,
        st.builds(
            ImportSource,
            st.sampled_from(ImportMethod),
            text,
            st.none() | size,
            st.none() | digest,
            st.none() | st.builds(SignedChecksums, text, text, st.binary(max_size=9)),
        ),
    ),
    ImageStaged: st.builds(
        ImageStaged,
        operation,
        st.sampled_from(StagePurpose),
        blob,
        st.none() | received,
        st.dictionaries(text, value, max_size=5),
        st.lists(st.sampled_from(ImportPlugin), max_size=4).map(tuple),
        st.none() | st.builds(Origin, text, digest, text, text),
        placement,
        refs,
        failed_stores,
    ),
    ImageVerified: st.builds(
        ImageVerified,
        operation,
        st.builds(Verification, st.sampled_from(Verdict), st.none() | digest, text, text, text, text),
        st.none() | st.builds(VerificationEvidence, text, st.lists(st.binary(max_size=9), max_size=3).map(tuple)),
    ),
    ImageConverted: st.builds(ImageConverted, operation, blob, text, text, texts, st.none() | disk_digest),
    ConversionSkipped: st.builds(
        ConversionSkipped, operation, st.sampled_from(SkipReason), facts, st.none() | disk_digest
    ),
    ImagePublished: st.builds(ImagePublished, operation, blob, refs),
    ImageStepFailed: st.builds(
        ImageStepFailed,
        operation,
        st.sampled_from(Step),
        failure,
    ),
    ImageAttested: st.builds(ImageAttested, operation, text, st.binary(max_size=99)),
    CopyDamaged: st.builds(CopyDamaged, ref, digest, st.none() | digest),
    CopyHealed: st.builds(CopyHealed, ref, text),
    CopyRequested: st.builds(CopyRequested, operation, placement),
    ImagePlaced: st.builds(ImagePlaced, operation, refs, failed_stores),
    CopyRemoved: st.builds(CopyRemoved, ref),
    ImageDeleted: st.builds(ImageDeleted, st.none() | moment),
    ImageRestored: st.builds(ImageRestored, with_data=st.booleans()),
    ImageExpired: st.just(ImageExpired()),
    ImagePurged: st.just(ImagePurged()),
}

event = st.builds(
    NewEvent,
    image_id=st.uuids().map(lambda value: ImageId(str(value))),
    project=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True).map(ProjectId),
    command_id=header_text.map(CommandId),
    event_id=header_text,
    time=moment,
    payload=st.one_of(*PAYLOADS.values()),
    context=st.builds(
        EventContext, header_text, header_text, header_text | st.just(""), header_text | st.just(""), st.booleans()
    ),
)
chain = st.just((1, "")) | st.tuples(st.integers(2, 10**9), st.binary(min_size=32, max_size=32).map(bytes.hex))


# --- round trips ------------------------------------------------------------------------------------------------------


def test_every_event_type_has_a_strategy() -> None:
    assert PAYLOADS.keys() == EVENT_TOKENS.keys()


@given(event, chain)
def test_every_event_comes_back_as_it_was(written: NewEvent, place: tuple[int, str]) -> None:
    version, previous_hash = place
    message = cloudevents.encode(written, version=version, previous_hash=previous_hash)
    read = cloudevents.decode(message.subject, message.headers, message.payload, position=7)
    assert read.event == written
    assert (read.version, read.position, read.previous_hash, read.hash) == (version, 7, previous_hash, message.hash)


@given(event)
def test_every_header_is_one_line_of_printable_ascii(written: NewEvent) -> None:
    message = cloudevents.encode(written, version=1, previous_hash="")
    assert all(0x21 <= ord(char) <= 0x7E for value in message.headers.values() for char in value)
    assert all(message.headers.values())


@given(header_text)
def test_percent_encoding_is_that_of_the_specification(value: str) -> None:
    encoded = cloudevents.percent_encode("ce-actor", value)
    assert cloudevents.percent_decode(encoded) == value
    assert not set(encoded) & set('" ')


def test_percent_encoding_of_the_specifications_example() -> None:
    # CloudEvents HTTP binding 1.0.2, section 3.1.3.2.
    assert cloudevents.percent_encode("ce-x", "Euro € 😀") == "Euro%20%E2%82%AC%20%F0%9F%98%80"


def test_equal_events_are_equal_bytes() -> None:
    forth = ImageCreated(ImageAttributes(properties={"a": "1", "b": "2", "c": "3"}))
    back = ImageCreated(ImageAttributes(properties={"c": "3", "b": "2", "a": "1"}))
    one = cloudevents.encode(EventBuilder().new(forth), version=1, previous_hash="")
    assert one == cloudevents.encode(EventBuilder().new(back), version=1, previous_hash="")


# --- the hash ---------------------------------------------------------------------------------------------------------


def test_the_hash_has_the_documented_form() -> None:
    expected = hashlib.sha256(
        b"tintype.event.v1\n"
        + (2).to_bytes(8, "big")
        + (4).to_bytes(8, "big") + b"ce-a" + (2).to_bytes(8, "big") + b"%20"[:2]
        + (4).to_bytes(8, "big") + b"ce-b" + (0).to_bytes(8, "big")
        + (3).to_bytes(8, "big") + b"abc"
    )  # fmt: skip
    headers = {"CE-B": "", "Nats-Msg-Id": "x", "ce-a": "%2"}
    assert cloudevents.event_hash(headers, b"abc") == expected.hexdigest()


@given(
    st.dictionaries(st.from_regex("ce-[a-z]{1,3}", fullmatch=True), st.text("ab:", max_size=3)), st.binary(max_size=4)
)
def test_any_change_changes_the_hash(headers: dict[str, str], payload: bytes) -> None:
    before = cloudevents.event_hash(headers, payload)
    assert cloudevents.event_hash({**headers, "ce-extra": ""}, payload) != before
    assert cloudevents.event_hash(headers, payload + b"\0") != before
    for name, value in headers.items():
        assert cloudevents.event_hash({**headers, name: value + "a"}, payload) != before


def test_other_headers_and_the_place_do_not_change_the_hash() -> None:
    message = cloudevents.encode(EventBuilder().new(), version=1, previous_hash="")
    stored = {**message.headers, "Nats-Sequence": "9"}
    read = cloudevents.decode(message.subject, stored, message.payload, position=99)
    assert read.hash == message.hash


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda event: dataclasses.replace(event, event_id="\udc80"),
        lambda event: dataclasses.replace(event, event_id="x" * 5000),
        lambda event: dataclasses.replace(event, command_id=CommandId("")),
        lambda event: dataclasses.replace(event, project=ProjectId("a.b")),
        lambda event: dataclasses.replace(event, image_id=ImageId(">")),
        lambda event: dataclasses.replace(event, time=datetime(2026, 1, 1)),  # noqa: DTZ001  # the mistake itself
        lambda event: dataclasses.replace(event, payload=ImageCreated(ImageAttributes(name="\ud800"))),
        lambda event: dataclasses.replace(event, payload=ImageCreated(ImageAttributes(min_ram=2**63))),
    ],
)
def test_what_cannot_be_written_is_refused(change: Callable[[NewEvent], NewEvent]) -> None:
    with pytest.raises(InvalidArgumentError):
        cloudevents.encode(change(EventBuilder().new()), version=1, previous_hash="")


def test_an_event_beyond_one_message_is_refused() -> None:
    large = ImageCreated(ImageAttributes(name="x" * cloudevents.MAX_EVENT_BYTES))
    with pytest.raises(EventTooLargeError):
        cloudevents.encode(EventBuilder().new(large), version=1, previous_hash="")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce-specversion", "0.3"),
        ("ce-source", "/other"),
        ("ce-id", None),
        ("ce-actor", None),
        ("ce-actor", "%4"),
        ("ce-actor", "%zz"),
        ("ce-actor", "%ff"),
        ("ce-actor", "ä"),
        ("CE-ACTOR", "another"),
        ("ce-commandid", None),
        ("ce-type", "io.tintype.image.created"),
        ("ce-type", "io.tintype.image.deleted.v1"),
        ("ce-type", None),
        ("ce-datacontenttype", "application/json"),
        ("ce-subject", "not-an-id"),
        ("ce-subject", "00000000-0000-0000-0000-000000000000"),
        ("ce-project", "other"),
        ("ce-project", "a.b"),
        ("ce-time", "2026-01-01T00:00:00"),
        ("ce-time", "now"),
        ("ce-imageversion", "0"),
        ("ce-imageversion", "1e3"),
        ("ce-imageversion", "9" * 5000),
        ("ce-prevhash", "ab"),
    ],
)
def test_a_message_that_is_no_event_is_corrupt(name: str, value: str | None) -> None:
    message = cloudevents.encode(EventBuilder().new(), version=1, previous_hash="")
    headers = {**message.headers, name: value}
    changed = {name: value for name, value in headers.items() if value is not None}
    with pytest.raises(LogCorruptError):
        cloudevents.decode(message.subject, changed, message.payload, position=1)


@given(st.binary(max_size=60))
def test_any_payload_is_an_event_or_corrupt(payload: bytes) -> None:
    message = cloudevents.encode(EventBuilder().new(), version=1, previous_hash="")
    try:
        read = cloudevents.decode(message.subject, message.headers, payload, position=1)
    except LogCorruptError:
        return
    assert isinstance(read.payload, ImageCreated)


def test_no_headers_at_all_are_corrupt() -> None:
    with pytest.raises(LogCorruptError):
        cloudevents.decode("tintype.v1.demo.image.x.created", None, b"", position=1)


@pytest.mark.parametrize("type_name", ["io.tintype.image.created.v2", "io.tintype.image.frobnicated.v1"])
def test_a_newer_type_says_so(type_name: str) -> None:
    message = cloudevents.encode(EventBuilder().new(), version=1, previous_hash="")
    with pytest.raises(EventTypeUnknownError, match=type_name):
        cloudevents.decode(message.subject, {**message.headers, "ce-type": type_name}, message.payload, position=1)


def test_a_retired_version_is_read_by_its_upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudevents, "UPCASTERS", {("created", 1): lambda payload: ImageDeleted()})
    message = cloudevents.encode(EventBuilder().new(CREATED), version=1, previous_hash="")
    with pytest.raises(LogCorruptError, match="subject"):  # it came back as another event than its subject says
        cloudevents.decode(message.subject, message.headers, message.payload, position=1)
