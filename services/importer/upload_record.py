"""What is recorded of an upload once its bytes are committed: ImageStaged, and what goes along with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from services.importer.plugins import ImportPlugins
from services.importer.upload_target import Written
from services.importer.upload_tokens import UploadToken
from tintype.adapters.stores import Stores
from tintype.domain.access import Caller, changeable
from tintype.domain.commands import RecordStaged
from tintype.domain.errors import (
    HistoryFullError,
    InvalidPropertyError,
    NotFoundError,
    PreconditionError,
    RefusedContentError,
    RequestIdReusedError,
    TintypeError,
)
from tintype.domain.events import EventContext, ImageStaged, ImportPlugin, StagePurpose
from tintype.domain.image import Image
from tintype.domain.values import BlobRef, CommandId, PropertyValue, Received
from tintype.runtime.journal import Journal
from tintype.runtime.tracing import current_traceparent

log = structlog.get_logger(__name__)


class UploadRecord:
    """Appends the events of uploads."""

    def __init__(self, journal: Journal, stores: Stores, plugins: ImportPlugins) -> None:
        self._journal = journal
        self._stores = stores
        self._plugins = plugins

    def plugins_for(
        self, image: Image, caller: Caller, purpose: StagePurpose
    ) -> tuple[Mapping[str, PropertyValue], tuple[ImportPlugin, ...]]:
        """The properties that are added to an image that is imported later, and what is not done with it.

        Raises:
            InvalidArgumentError: it would have more properties than an image may.
        """
        if purpose is StagePurpose.UPLOAD:
            return {}, ()
        injected = self._plugins.injected_into(image, is_admin=caller.is_admin)
        return injected, self._plugins.switched_off(is_admin=caller.is_admin)

    async def staged(self, caller: Caller, token: UploadToken, written: Written, received: Received | None) -> int:
        """Append ImageStaged, and return its position; a second time it is the same event.

        Of two replicas that finish one upload, the first one's word counts, whatever the second has seen of the stores.

        Raises:
            PreconditionError, NotFoundError, RefusedContentError, HistoryFullError, InvalidPropertyError: the image
                took another way meanwhile; the bytes are removed.
        """
        command = CommandId(f"{token.operation_id}:staged")
        try:
            executed = await self._journal.execute(
                token.image_id,
                await self._staged_command(caller, token, written, received),
                project=caller.project,
                command_id=command,
                context=EventContext(
                    caller.actor,
                    correlation_id=token.operation_id,
                    causation_id=command,
                    traceparent=current_traceparent(),
                ),
            )
        except RequestIdReusedError:
            position = await self._position(token)
            if position is None:
                raise
            return position
        except (PreconditionError, NotFoundError, RefusedContentError, HistoryFullError, InvalidPropertyError):
            if not await self.is_recorded(token):
                await self._remove(token, written)  # nobody will want these bytes
            raise
        return executed.event.position

    async def is_recorded(self, token: UploadToken) -> bool:
        """Whether the upload has ended: its bytes are the image's then, whoever has recorded it."""
        return await self._position(token) is not None

    async def _position(self, token: UploadToken) -> int | None:
        for recorded in await self._journal.history(token.image_id):
            if isinstance(recorded.payload, ImageStaged) and recorded.payload.operation_id == token.operation_id:
                return recorded.position
        return None

    async def _staged_command(
        self, caller: Caller, token: UploadToken, written: Written, received: Received | None
    ) -> RecordStaged:
        command = RecordStaged(
            token.operation_id,
            token.purpose,
            written.blob,
            placement=written.placement,
            copies=written.copies,
            failed=written.failed,
        )
        if token.purpose is StagePurpose.UPLOAD:
            return command
        image = changeable(await self._journal.load(token.image_id), caller)
        injected, switched_off = self.plugins_for(image, caller, token.purpose)
        kept = replace(written.blob, facts=self._plugins.kept(written.blob.facts))
        return replace(command, blob=kept, received=received, injected=injected, switched_off=switched_off)

    async def _remove(self, token: UploadToken, written: Written) -> None:
        for ref in dict.fromkeys(
            (BlobRef(written.blob.ref.store, token.key), written.blob.ref, *written.copies),
        ):
            try:
                await self._stores.named(ref.store).delete(ref.key)
            except TintypeError as exc:
                log.warning("refused bytes are left for the sweep", store=ref.store, key=ref.key, reason=exc.reason)
