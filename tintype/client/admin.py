"""What operators ask of the services."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.importer.v1 import importer_pb2
from tintype.api.signer.v1 import signer_pb2
from tintype.client import decoding, store_decoding
from tintype.client.custody import trust_part
from tintype.client.models import RebuildProgress, ScrubProgress, SignedCheckpoint
from tintype.client.status import system_status
from tintype.client.status_models import SystemStatus
from tintype.client.store_models import StoreFinding, SweepProgress
from tintype.client.transport import AS_ADMIN, Transport

EXAMINE_TIMEOUT_S = 300.0
"""A store may be examined by taking something through its whole life, such as a volume that is attached."""


class Admin:
    """Work on the catalog, the log and the stores."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def status(self) -> SystemStatus:
        """The whole deployment at a glance, as an administrator: what is wrong first, then services, log, tables, work,
        images and stores.

        Takes a few seconds at most, and raises nothing for what is away: what nobody could tell is ``None``, with why.
        """
        return await system_status(self._transport)

    async def rebuild(self) -> AsyncGenerator[RebuildProgress, None]:
        """Build the catalog's tables anew from the log, beside those in use, and switch; yield how far it is.

        The last one that is yielded has ``switched`` set. Closing the iterator before gives the new tables up.

        Raises:
            ClientError: the catalog refused, or the stream broke: rebuild again.
        """
        messages = self._transport.stream(
            self._transport.admin.RebuildProjection, pb.RebuildProjectionRequest(), extra_metadata=(AS_ADMIN,)
        )
        async with aclosing(messages):
            async for message in messages:
                yield decoding.rebuild(message)

    async def checkpoint(self, *, max_position: int = 0) -> SignedCheckpoint:
        """The newest signed checkpoint of the log, or the newest one of ``max_position`` and before.

        Save its ``envelope`` where whoever may write to the log may not: ``events.check_log(since=…)`` then proves that
        nothing up to its position was changed, or has vanished.

        Raises:
            NotFoundError: there is none yet.
            IntegrityError: what the signer hands out is no checkpoint.
            ConfigurationError: the configuration names no signer.
        """
        request = signer_pb2.GetCheckpointRequest(max_position=max_position)
        answer = await self._transport.call(self._transport.signer.GetCheckpoint, request)
        with trust_part():
            return decoding.checkpoint(answer)

    async def scrub(
        self, *, store: str = "", rate_bytes_s: int = 0, image_id: str = ""
    ) -> AsyncGenerator[ScrubProgress, None]:
        """Have the importer read stored copies again, of all images or of one, in all stores or in one; yield how far
        it is, and each copy that is not sound. Damaged copies are marked, and healed from another store's.

        ``rate_bytes_s`` bounds how fast it reads; 0 does not. Closing the iterator ends it; what is marked stays so.

        Raises:
            NotFoundError: there is no such image, or it has no bytes.
            ClientError: the importer refused, or the stream broke: scrub again.
        """
        request = importer_pb2.ScrubRequest(store=store, rate_bytes_s=rate_bytes_s, image_id=image_id)
        messages = self._transport.stream(self._transport.importer_admin.Scrub, request, extra_metadata=(AS_ADMIN,))
        async with aclosing(messages):
            async for message in messages:
                yield decoding.scrub(message)

    async def examine_store(self, name: str) -> tuple[StoreFinding, ...]:
        """What the importer finds when it looks at everything that should be known before a store is trusted.

        Raises:
            NotFoundError: no store of that name is configured.
            ServiceUnavailableError: the importer, or the store, does not answer.
        """
        answer = await self._transport.call(
            self._transport.importer_admin.ExamineStore,
            importer_pb2.ExamineStoreRequest(store=name),
            timeout_s=EXAMINE_TIMEOUT_S,
            extra_metadata=(AS_ADMIN,),
        )
        return tuple(store_decoding.finding(message) for message in answer.findings)

    async def sweep(self, *, store: str = "", dry_run: bool = False) -> AsyncGenerator[SweepProgress, None]:
        """Have the importer look for bytes without an event, in all stores or in one, and remove them; and for events
        without bytes. Yield how far it is, and each finding. With ``dry_run`` nothing is removed.

        What a live upload may own is spared. Closing the iterator ends the sweep; what is removed stays so.

        Raises:
            NotFoundError: no store of that name is configured.
            ClientError: the importer refused, or the stream broke: sweep again.
        """
        request = importer_pb2.SweepRequest(store=store, dry_run=dry_run)
        messages = self._transport.stream(self._transport.importer_admin.Sweep, request, extra_metadata=(AS_ADMIN,))
        async with aclosing(messages):
            async for message in messages:
                yield store_decoding.sweep(message)
