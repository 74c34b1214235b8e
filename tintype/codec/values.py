"""Values: enums, attributes, blobs, sources, failures and progress, to protobuf and back.

Decoding trusts nothing: an enum, a digest or an id that is not known raises an ``InvalidArgumentError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from tintype.api.catalog.v1 import catalog_pb2
from tintype.api.types.v1 import types_pb2 as pb
from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import InvalidArgumentError, PropertyTypeError
from tintype.domain.events import (
    FailedStore,
    Failure,
    ImportMethod,
    ImportPlugin,
    ImportSource,
    Origin,
    Progress,
    SignedChecksums,
    Step,
)
from tintype.domain.lifecycle import Status
from tintype.domain.values import (
    DEFAULT_PLACEMENT,
    Blob,
    BlobRef,
    ContainerFormat,
    Digest,
    DiskFormat,
    Fact,
    Placement,
    PropertyValue,
    Received,
    Visibility,
    guest_digest,
    image_id,
    operation_id,
    project_id,
)

E = TypeVar("E", bound=StrEnum)
V = TypeVar("V", bound=int)


class EnumCodec(Generic[E, V]):
    """Translates a domain enum to a protobuf enum and back; zero is ``None``, as protobuf has it."""

    def __init__(self, name: str, numbers: Mapping[E, V]) -> None:
        self._name = name
        self._numbers = numbers
        self._members = {int(number): member for member, number in numbers.items()}

    def encode(self, member: E | None) -> V:
        """The number of ``member``; 0 for ``None``."""
        return 0 if member is None else self._numbers[member]  # type: ignore[return-value]

    def decode_optional(self, number: int) -> E | None:
        """The member of ``number``; ``None`` for 0.

        Raises:
            InvalidArgumentError: a number that this release does not know.
        """
        if number == 0:
            return None
        try:
            return self._members[number]
        except KeyError:
            raise InvalidArgumentError(f"{number} is not a known {self._name}") from None

    def decode(self, number: int) -> E:
        """The member of ``number``.

        Raises:
            InvalidArgumentError: 0, or a number that this release does not know.
        """
        member = self.decode_optional(number)
        if member is None:
            raise InvalidArgumentError(f"{self._name} is missing")
        return member


DISK_FORMAT = EnumCodec("disk format", {m: pb.DiskFormat.Value(f"DISK_FORMAT_{m.name}") for m in DiskFormat})
CONTAINER_FORMAT = EnumCodec(
    "container format", {m: pb.ContainerFormat.Value(f"CONTAINER_FORMAT_{m.name}") for m in ContainerFormat}
)
VISIBILITY = EnumCodec("visibility", {m: pb.Visibility.Value(f"VISIBILITY_{m.name}") for m in Visibility})
STATUS = EnumCodec("status", {m: pb.Status.Value(f"STATUS_{m.name}") for m in Status})
STEP = EnumCodec("step", {m: pb.Step.Value(f"STEP_{m.name}") for m in Step})
IMPORT_PLUGIN = EnumCodec("import plugin", {m: pb.ImportPlugin.Value(f"IMPORT_PLUGIN_{m.name}") for m in ImportPlugin})
IMPORT_METHOD = EnumCodec("import method", {m: pb.ImportMethod.Value(f"IMPORT_METHOD_{m.name}") for m in ImportMethod})


def encode_time(time: datetime) -> Timestamp:
    """A point in time."""
    message = Timestamp()
    message.FromDatetime(time.astimezone(UTC))
    return message


def decode_time(message: Timestamp) -> datetime:
    """A point in time, in UTC.

    Raises:
        InvalidArgumentError: beyond the years 1 to 9999.
    """
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidArgumentError("a timestamp must lie between the years 1 and 9999") from None


def encode_property(value: PropertyValue) -> pb.PropertyValue:
    """A property's value with its type."""
    if isinstance(value, bool):
        return pb.PropertyValue(bool_value=value)
    if isinstance(value, int):
        return pb.PropertyValue(int_value=value)
    return pb.PropertyValue(string_value=value)


def decode_property(key: str, message: pb.PropertyValue) -> PropertyValue:
    """A property's value.

    Raises:
        PropertyTypeError: the message carries none of the known types.
    """
    match message.WhichOneof("kind"):
        case "string_value":
            return message.string_value
        case "int_value":
            return message.int_value
        case "bool_value":
            return message.bool_value
        case _:
            raise PropertyTypeError(f"property {key[:80]!r} has no value of a known type")


def encode_properties(properties: Mapping[str, PropertyValue]) -> dict[str, pb.PropertyValue]:
    """All properties."""
    return {key: encode_property(value) for key, value in properties.items()}


def decode_properties(messages: Mapping[str, pb.PropertyValue]) -> dict[str, PropertyValue]:
    """All properties.

    Raises:
        PropertyTypeError: as :func:`decode_property`.
    """
    return {key: decode_property(key, message) for key, message in messages.items()}


def encode_facts(facts: Mapping[str, Fact]) -> dict[str, pb.Fact]:
    """What was read from the bytes."""
    return {key: pb.Fact(value=encode_property(fact.value), source=fact.source) for key, fact in facts.items()}


def decode_facts(messages: Mapping[str, pb.Fact]) -> dict[str, Fact]:
    """What was read from the bytes.

    Raises:
        PropertyTypeError: as :func:`decode_property`.
    """
    return {key: Fact(decode_property(key, message.value), message.source) for key, message in messages.items()}


def encode_attributes(attributes: ImageAttributes) -> pb.ImageAttributes:
    """The changeable part of an image."""
    return pb.ImageAttributes(
        name=attributes.name,
        visibility=VISIBILITY.encode(attributes.visibility),
        disk_format=DISK_FORMAT.encode(attributes.disk_format),
        container_format=CONTAINER_FORMAT.encode(attributes.container_format),
        min_disk=attributes.min_disk,
        min_ram=attributes.min_ram,
        protected=attributes.protected,
        hidden=attributes.hidden,
        tags=attributes.tags,
        properties=encode_properties(attributes.properties),
        overrides=encode_properties(attributes.overrides),
    )


def decode_attributes(message: pb.ImageAttributes | catalog_pb2.Image) -> ImageAttributes:
    """The changeable part of an image, unchecked; an event and a request carry it in fields of the same names.

    Raises:
        InvalidArgumentError: an enum or a property of no known kind.
    """
    return ImageAttributes(
        name=message.name,
        visibility=VISIBILITY.decode_optional(message.visibility) or Visibility.SHARED,
        disk_format=DISK_FORMAT.decode_optional(message.disk_format),
        container_format=CONTAINER_FORMAT.decode_optional(message.container_format),
        min_disk=message.min_disk,
        min_ram=message.min_ram,
        protected=message.protected,
        hidden=message.hidden,
        tags=tuple(message.tags),
        properties=decode_properties(message.properties),
        overrides=decode_properties(message.overrides),
    )


def encode_source(source: ImportSource) -> pb.ImportSource:
    """What an import was asked to fetch."""
    return pb.ImportSource(
        method=IMPORT_METHOD.encode(source.method),
        uri=source.uri,
        expected_size=source.expected_size,
        expected_digest=str(source.expected_digest or ""),
        checksums=encode_checksums(source.checksums),
    )


def decode_source(message: pb.ImportSource) -> ImportSource:
    """What an import was asked to fetch, unchecked but for its form.

    Raises:
        InvalidArgumentError: an unknown method or a malformed digest.
    """
    return ImportSource(
        method=IMPORT_METHOD.decode(message.method),
        uri=message.uri,
        expected_size=message.expected_size if message.HasField("expected_size") else None,
        expected_digest=decode_digest(message.expected_digest),
        checksums=_decode_checksums(message.checksums) if message.HasField("checksums") else None,
    )


def encode_checksums(checksums: SignedChecksums | None) -> pb.SignedChecksums | None:
    """A publisher's signed list."""
    if checksums is None:
        return None
    return pb.SignedChecksums(
        uri=checksums.uri, signature_uri=checksums.signature_uri, publisher_key=checksums.publisher_key
    )


def _decode_checksums(message: pb.SignedChecksums) -> SignedChecksums:
    return SignedChecksums(message.uri, message.signature_uri, message.publisher_key)


def encode_origin(origin: Origin | None) -> pb.Origin | None:
    """What was proven of where imported bytes come from."""
    if origin is None:
        return None
    return pb.Origin(
        uri=origin.uri,
        digest=str(origin.digest),
        checksums_uri=origin.checksums_uri,
        publisher_fingerprint=origin.publisher_fingerprint,
    )


def decode_origin(message: pb.Origin) -> Origin:
    """What was proven of where imported bytes come from.

    Raises:
        InvalidDigestError: malformed.
    """
    return Origin(message.uri, Digest.parse(message.digest), message.checksums_uri, message.publisher_fingerprint)


def decode_digest(text: str) -> Digest | None:
    """A digest; ``None`` where the text is empty.

    Raises:
        InvalidDigestError: malformed.
    """
    return Digest.parse(text) if text else None


def encode_ref(ref: BlobRef) -> pb.BlobRef:
    """Where some bytes are."""
    return pb.BlobRef(store=ref.store, key=ref.key)


def decode_ref(message: pb.BlobRef) -> BlobRef:
    """Where some bytes are."""
    return BlobRef(message.store, message.key)


def encode_placement(placement: Placement) -> pb.Placement | None:
    """Which stores bytes shall be in; nothing for the default."""
    if placement == DEFAULT_PLACEMENT:
        return None
    return pb.Placement(stores=placement.stores, in_all=placement.in_all, all_must_succeed=placement.all_must_succeed)


def decode_placement(message: pb.Placement) -> Placement:
    """Which stores bytes shall be in."""
    return Placement(tuple(message.stores), message.in_all, message.all_must_succeed)


def encode_failed_stores(failed: Iterable[FailedStore]) -> list[pb.FailedStore]:
    """Stores that could not take bytes."""
    return [pb.FailedStore(store=store.store, failure=encode_failure(store.failure)) for store in failed]


def decode_failed_stores(messages: Iterable[pb.FailedStore]) -> tuple[FailedStore, ...]:
    """Stores that could not take bytes."""
    return tuple(FailedStore(message.store, decode_failure(message.failure)) for message in messages)


def encode_blob(blob: Blob) -> pb.Blob:
    """Bytes and what is known of them."""
    return pb.Blob(
        ref=encode_ref(blob.ref),
        size=blob.size,
        digests=blob.digests,
        disk_format=DISK_FORMAT.encode(blob.disk_format),
        virtual_size=blob.virtual_size,
        read_facts=encode_facts(blob.facts),
        guest_digest=blob.guest_digest or "",
    )


def decode_blob(message: pb.Blob) -> Blob:
    """Bytes and what is known of them.

    Raises:
        InvalidArgumentError: no known format.
    """
    return Blob(
        ref=decode_ref(message.ref),
        size=message.size,
        digests=dict(message.digests),
        disk_format=DISK_FORMAT.decode(message.disk_format),
        virtual_size=message.virtual_size if message.HasField("virtual_size") else None,
        facts=decode_facts(message.read_facts) or {key: Fact(value) for key, value in message.facts.items()},
        guest_digest=guest_digest(message.guest_digest),
    )


def encode_received(received: Received | None) -> pb.Received | None:
    """Bytes as they came."""
    if received is None:
        return None
    return pb.Received(size=received.size, digests=received.digests, compression=received.compression)


def decode_received(message: pb.Received) -> Received:
    """Bytes as they came."""
    return Received(message.size, dict(message.digests), message.compression)


def encode_failure(failure: Failure | None) -> pb.Failure | None:
    """Why something did not work."""
    if failure is None:
        return None
    return pb.Failure(
        reason=failure.reason,
        message=failure.message,
        hint=failure.hint,
        retryable=failure.retryable,
        evidence=failure.evidence,
    )


def decode_failure(message: pb.Failure) -> Failure:
    """Why something did not work."""
    return Failure(message.reason, message.message, message.hint, message.retryable, dict(message.evidence))


def encode_progress(progress: Progress) -> pb.Progress:
    """How far a step has come."""
    return pb.Progress(
        image_id=progress.image_id,
        project=progress.project,
        operation_id=progress.operation_id,
        step=STEP.encode(progress.step),
        done=progress.done,
        total=progress.total,
        time=encode_time(progress.time),
        waiting_for=encode_failure(progress.waiting_for),
    )


def decode_progress(message: pb.Progress) -> Progress:
    """How far a step has come.

    Raises:
        InvalidArgumentError: an id or a step is malformed.
    """
    return Progress(
        image_id=image_id(message.image_id),
        project=project_id(message.project),
        operation_id=operation_id(message.operation_id),
        step=STEP.decode(message.step),
        done=message.done,
        total=message.total if message.HasField("total") else None,
        time=decode_time(message.time),
        waiting_for=decode_failure(message.waiting_for) if message.HasField("waiting_for") else None,
    )
