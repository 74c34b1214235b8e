"""What operators ask of the services."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.importer.v1 import importer_pb2
from tintype.api.signer.v1 import signer_pb2
from tintype.client import decoding, store_decoding
from tintype.client.backup_check import Files, opened_chain, trusted_keys
from tintype.client.backup_models import Backup, Restored
from tintype.client.custody import trust_part
from tintype.client.models import OnProgress, RebuildProgress, ScrubProgress, SignedCheckpoint
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

    async def backup(
        self,
        destination: Path | str | BinaryIO,
        *,
        since: Path | str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Backup:
        """Write the log, and its signed checkpoints, as they are now; services go on meanwhile.

        A path gets its name when the file is whole and on the disk, and nobody but its owner may read it. ``since`` is
        a former backup, which this one then continues: it has what came later alone, and is restored behind that one.
        Not in it: the bytes of images, the service's keys, and changes of stores' states, which are no facts.

        Raises:
            ServiceUnavailableError: NATS does not answer.
            IntegrityError: a message is missing in the log.
            ContentError: ``since`` is no whole backup (``BACKUP_INVALID``), or not of this log (``BACKUP_CHAIN``).
            ConfigurationError: the configuration names no NATS.
            OSError: a file cannot be read or written.
        """
        from tintype.client.backup import write_backup

        with trust_part():
            return await write_backup(self._transport, destination, Path(since) if since else None, on_progress)

    async def restore(
        self,
        files: Files,
        *,
        dry_run: bool = False,
        replicas: int = 0,
        trust_store: Path | str | None = None,
        unsafe_accept_faults: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Restored:
        """Put the log back from a full backup, and those that continue it, oldest first.

        **Stop every service first.** All files are verified before anything is written, as by
        :func:`tintype.client.check_backup`. NATS must have none of the streams, or a beginning of this very log, as an
        interrupted restore leaves it: then it goes on there. Each message gets the place that it had; the time at which
        the server stored it is a new one. Streams that are made have ``replicas`` (0: as many as the backup says).

        ``unsafe_accept_faults`` restores a log although chains of hashes or checkpoints do not hold in it.

        Raises:
            ContentError: a file is no whole backup, or does not continue the one before it.
            IntegrityError: the log in them is damaged, or not what its checkpoints say.
            PreconditionError: NATS has another log (``LOG_DIFFERS``), or services use it (``LOG_IN_USE``).
            ServiceUnavailableError: NATS does not answer; restore again, and it goes on.
            ConfigurationError: the configuration names no NATS, or a stream cannot be made as it has to be.
            OSError: a file cannot be read.
        """
        from tintype.client.log_reader import open_log
        from tintype.client.restore import Restore

        keys = await trusted_keys(trust_store or self._transport.config.trust_store)
        with trust_part():
            async with opened_chain(files) as chain, open_log(self._transport) as log:
                check = await chain.check(keys, None)
                if not unsafe_accept_faults:
                    check.require_sound()
                return await Restore(log, chain, replicas, on_progress).run(check, dry_run=dry_run)

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
