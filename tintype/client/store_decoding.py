"""From the importer's messages about stores to the SDK's models."""

from __future__ import annotations

from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.client.decoding import understood
from tintype.client.store_models import (
    Grade,
    ImageLocation,
    Store,
    StoreFinding,
    StoreMode,
    SweepFinding,
    SweepFindingKind,
    SweepProgress,
)
from tintype.codec import values

_MODE = values.EnumCodec("store mode", {m: pb.StoreMode.Value(f"STORE_MODE_{m.name}") for m in StoreMode})
_GRADE = values.EnumCodec("grade", {m: pb.Grade.Value(f"GRADE_{m.name}") for m in Grade})
_KIND = values.EnumCodec(
    "kind of finding", {m: pb.SweepFindingKind.Value(f"SWEEP_FINDING_KIND_{m.name}") for m in SweepFindingKind}
)


def store(message: pb.Store) -> Store:
    """A store.

    Raises:
        ServiceDefectError: it has values that this release does not know.
    """
    with understood("a store"):
        return Store(
            name=message.name,
            description=message.description,
            kind=message.kind,
            is_default=message.is_default,
            weight=message.weight,
            mode=_MODE.decode(message.mode),
            since=values.decode_time(message.since) if message.HasField("since") else None,
            failure=values.decode_failure(message.failure) if message.HasField("failure") else None,
            free_bytes=message.free_bytes if message.HasField("free_bytes") else None,
            total_bytes=message.total_bytes if message.HasField("total_bytes") else None,
            is_sparse=message.is_sparse,
            handover=message.handover,
        )


def location(message: pb.ImageLocation) -> ImageLocation:
    """A place to fetch an image from.

    Raises:
        ServiceDefectError: its time is beyond what there is.
    """
    with understood("a location"):
        expires_at = values.decode_time(message.expires_at) if message.HasField("expires_at") else None
        return ImageLocation(message.store, message.kind, message.url, expires_at)


def finding(message: pb.StoreFinding) -> StoreFinding:
    """What an examination found.

    Raises:
        ServiceDefectError: its grade is none that this release knows.
    """
    with understood("a store's finding"):
        return StoreFinding(message.name, _GRADE.decode(message.grade), message.found, message.advice)


def sweep(message: pb.SweepResponse) -> SweepProgress:
    """How far a sweep is, and what it found.

    Raises:
        ServiceDefectError: what it found is of a kind that this release does not know.
    """
    if not message.HasField("finding"):
        return SweepProgress(message.blobs, None)
    told = message.finding
    with understood("what a sweep found"):
        found = SweepFinding(
            store=told.store,
            key=told.key,
            image_id=told.image_id,
            size=told.size,
            kind=_KIND.decode_optional(told.kind),
            removed=told.removed,
            failure=values.decode_failure(told.failure) if told.HasField("failure") else None,
        )
    return SweepProgress(message.blobs, found)
