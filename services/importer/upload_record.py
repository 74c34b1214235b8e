"""What is recorded of an upload once its bytes are committed: ImageStaged, and what goes along with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from services.importer.plugins import ImportPlugins
from services.importer.upload_tokens import UploadToken
from tintype.domain.access import Caller, changeable
from tintype.domain.commands import RecordStaged
from tintype.domain.errors import (
    HistoryFullError,
    InvalidPropertyError,
    NotFoundError,
    PreconditionError,
    RefusedContentError,
)
from tintype.domain.events import EventContext, ImportPlugin, StagePurpose
from tintype.domain.image import Image
from tintype.domain.values import Blob, CommandId, PropertyValue, Received
from tintype.ports.image_store import ImageStore
from tintype.runtime.journal import Journal


class UploadRecord:
    """Appends the events of uploads."""

    def __init__(self, journal: Journal, store: ImageStore, plugins: ImportPlugins) -> None:
        self._journal = journal
        self._store = store
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

    async def staged(self, caller: Caller, token: UploadToken, blob: Blob, received: Received | None) -> int:
        """Append ImageStaged, and return its position; a second time it is the same event.

        Raises:
            PreconditionError, NotFoundError, RefusedContentError, HistoryFullError, InvalidPropertyError: the image
                took another way meanwhile; the bytes are removed.
        """
        command = CommandId(f"{token.operation_id}:staged")
        try:
            executed = await self._journal.execute(
                token.image_id,
                await self._staged_command(caller, token, blob, received),
                project=caller.project,
                command_id=command,
                context=EventContext(caller.actor, correlation_id=token.operation_id, causation_id=command),
            )
        except (PreconditionError, NotFoundError, RefusedContentError, HistoryFullError, InvalidPropertyError):
            for key in {token.key, blob.ref.key}:  # nobody will want these bytes
                await self._store.delete(key)
            raise
        return executed.event.position

    async def _staged_command(
        self, caller: Caller, token: UploadToken, blob: Blob, received: Received | None
    ) -> RecordStaged:
        if token.purpose is StagePurpose.UPLOAD:
            return RecordStaged(token.operation_id, token.purpose, blob)
        image = changeable(await self._journal.load(token.image_id), caller)
        injected, switched_off = self.plugins_for(image, caller, token.purpose)
        kept = replace(blob, facts=self._plugins.kept(blob.facts))
        return RecordStaged(token.operation_id, token.purpose, kept, received, injected, switched_off)
