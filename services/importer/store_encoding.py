"""Stores, findings and locations in the API's words."""

from __future__ import annotations

from services.importer.locations import ImageLocation
from services.importer.store_listing import StoreView
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.codec import values
from tintype.domain.access import Caller
from tintype.domain.events import Failure
from tintype.ports.image_store import Finding, Grade, StoreMode, StoreState

_MODE = values.EnumCodec("store mode", {mode: pb.StoreMode.Value(f"STORE_MODE_{mode.name}") for mode in StoreMode})
_GRADE = values.EnumCodec("grade", {grade: pb.Grade.Value(f"GRADE_{grade.name}") for grade in Grade})


_SEE_WHY = "An operator sees why with `tintype store check NAME`; what can be reached is still read."


def encode_store(view: StoreView, caller: Caller) -> pb.Store:
    """A store for its users: nothing of where it is, or of how it is reached."""
    store, section, state = view.store, view.section, view.store.state
    message = pb.Store(
        name=store.name,
        description=section.description,
        kind=view.kind,
        is_default=view.is_default,
        weight=section.weight,
        mode=_MODE.encode(state.mode),
        since=values.encode_time(state.since),
        failure=values.encode_failure(_failure(store.name, state, caller)),
        is_sparse=store.capabilities.is_sparse,
        handover=(store.capabilities.handover or "") if section.hand_over else "",
    )
    if view.space is not None:
        message.free_bytes, message.total_bytes = view.space.free, view.space.total
    return message


def _failure(name: str, state: StoreState, caller: Caller) -> Failure | None:
    if state.mode is StoreMode.READ_WRITE:
        return None
    # What a store says of itself may name a directory or a server: that is for operators.
    said = state.message[:1000] if caller.is_admin else ""
    return Failure(state.reason, said or f"store {name!r} is {state.mode}", _SEE_WHY, retryable=True)


def encode_finding(finding: Finding) -> pb.StoreFinding:
    """What an examination found."""
    return pb.StoreFinding(
        name=finding.name, grade=_GRADE.encode(finding.grade), found=finding.found, advice=finding.advice
    )


def encode_location(found: ImageLocation) -> pb.ImageLocation:
    """Where a copy is."""
    location = found.location
    message = pb.ImageLocation(store=found.store, kind=location.kind, url=location.url)
    if location.expires_at is not None:
        message.expires_at.CopyFrom(values.encode_time(location.expires_at))
    return message
