"""The changes of stores' states, in a JetStream stream of their own."""

from __future__ import annotations

from tintype.adapters.nats.connection import NatsConnection, read_json
from tintype.codec.store_states import encode
from tintype.codec.subjects import STORE_STREAM
from tintype.domain.errors import EventLogUnavailableError
from tintype.ports.store_states import StoreStateChanged


class NatsStoreStateLog:
    """The stream ``TINTYPE_STORES``, which :func:`tintype.adapters.nats.stream.ensure_stream` made."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def append(self, change: StoreStateChanged) -> None:
        """Tell a change; see :meth:`tintype.ports.store_states.StoreStateLog.append`."""
        message = encode(change)
        headers = {**message.headers, "Nats-Expected-Stream": STORE_STREAM}
        reply = await self._connection.request(
            message.subject, message.payload, headers=headers, waits_for_responder=True
        )
        if error := read_json(reply.data).get("error"):
            raise EventLogUnavailableError(f"the store's state was not told: {error.get('description')}")
