"""A change of a store's state as one message: CloudEvents 1.0 in binary mode, as the events of images are."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from tintype.api.events.v1 import events_pb2 as pb
from tintype.codec.cloudevents import CONTENT_TYPE, SOURCE
from tintype.codec.subjects import store_subject
from tintype.codec.values import decode_time, encode_time
from tintype.domain.errors import InvalidArgumentError, LogCorruptError
from tintype.ports.image_store import StoreMode, StoreState
from tintype.ports.store_states import StoreStateChanged

TYPE = "io.tintype.store.state_changed.v1"
_MAX_TEXT = 1000


@dataclass(frozen=True, slots=True)
class StoreStateMessage:
    """A change as it goes over the wire."""

    subject: str
    headers: Mapping[str, str]
    payload: bytes


def encode(change: StoreStateChanged) -> StoreStateMessage:
    """The message of a change.

    Raises:
        InvalidIdentifierError: the store's name is none.
    """
    state = change.state
    message = pb.StoreStateChanged(
        store=change.store,
        mode=state.mode.value,
        since=encode_time(state.since),
        reason=state.reason,
        message=state.message[:_MAX_TEXT],
        service=change.service,
        host=change.host[:_MAX_TEXT],
    )
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(uuid.uuid4()),
        "ce-source": SOURCE,
        "ce-type": TYPE,
        "ce-subject": change.store,
        "ce-time": message.since.ToJsonString(),
        "ce-datacontenttype": CONTENT_TYPE,
    }
    return StoreStateMessage(store_subject(change.store), headers, message.SerializeToString())


def decode(subject: str, payload: bytes) -> StoreStateChanged:
    """The change in a message.

    Raises:
        LogCorruptError: it is none, or does not belong on its subject.
    """
    try:
        message = pb.StoreStateChanged.FromString(payload)
        state = StoreState(StoreMode(message.mode), decode_time(message.since), message.reason, message.message)
        change = StoreStateChanged(message.store, state, message.service, message.host)
        if subject != store_subject(change.store):
            raise LogCorruptError("a change of a store's state does not belong on its subject")
    except (DecodeError, ValueError, InvalidArgumentError) as exc:
        raise LogCorruptError(f"a change of a store's state cannot be decoded: {exc}") from exc
    return change
