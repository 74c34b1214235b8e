"""What users ask of the catalog: decided on the log's own state, and appended as one event.

A request that is repeated with its ``request_id`` is one command: ids that the service chooses are derived from it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from services.catalog.import_sources import checked_source
from services.catalog.links import Links
from tintype.domain.access import Caller, changeable
from tintype.domain.attributes import ImageAttributes, merged
from tintype.domain.commands import (
    CancelOperation,
    CreateImage,
    DeleteImage,
    RemoveCopy,
    RequestCopy,
    RequestImport,
    RestoreImage,
    UpdateImage,
)
from tintype.domain.decide import decide
from tintype.domain.events import EventContext, ImportSource, NewEvent, RecordedEvent
from tintype.domain.evolve import evolve
from tintype.domain.image import Image
from tintype.domain.placements import checked_copy, checked_placement
from tintype.domain.values import CommandId, ImageId, OperationId, Placement, image_id, uuid_text
from tintype.ports.clock import Clock
from tintype.runtime.journal import Asked, Journal, command_at

_NAMESPACE = uuid.UUID("c2b4d0de-5b0a-5f2c-9a3e-6d1f6b7a9e41")
"""Of the ids that are derived from requests; a change of it would make two images of one repeated request."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks, and under which id: ``request_id`` is a lower-case UUID, the client's or a random one."""

    caller: Caller
    request_id: str
    traceparent: str = ""
    is_validate_only: bool = False

    @property
    def command_id(self) -> CommandId:
        """Names the command for ever; other projects cannot take it."""
        return CommandId(f"{self.caller.project}:{self.request_id}")

    def derived_id(self, *parts: str) -> str:
        """A UUID that is the same whenever the request is repeated."""
        return str(uuid.uuid5(_NAMESPACE, ":".join((self.command_id, *parts))))

    @property
    def context(self) -> EventContext:
        """What the event says about its cause."""
        caller = self.caller
        return EventContext(caller.actor, self.request_id, self.command_id, self.traceparent, caller.is_admin)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the site allows: the most bytes that an import may announce, for how many seconds a deleted image can be
    restored, and the names of its stores, ``None`` where the catalog is not told them.
    """

    max_image_bytes: int
    delete_delay_s: float = 0.0
    stores: Collection[str] | None = None


def checked_request_id(text: str) -> str:
    """The request's id in normal form; a random one where the client gave none.

    Raises:
        InvalidIdentifierError: it is not a UUID.
    """
    return uuid_text(text, "request id") if text else str(uuid.uuid4())


class Commands:
    """Carries out what users ask; every method answers the image right behind the command's event.

    With ``validate_only`` it answers the image as it would be, and appends nothing.
    """

    def __init__(self, journal: Journal, clock: Clock, rules: Rules) -> None:
        self._journal = journal
        self._links = Links(journal)
        self._clock = clock
        self._rules = rules

    async def create(self, request: Request, chosen_id: str, attributes: ImageAttributes) -> Image:
        """Make an image without bytes.

        Raises:
            ImageExistsError: the chosen id is taken.
            InvalidArgumentError: an attribute is out of bounds.
            NotPermittedError: it has overrides, and the caller is no administrator.
            LinkedImageError: a property names an image that is not there, or of another kind.
        """
        image = image_id(chosen_id or request.derived_id("image"))
        await self._links.check(request.caller, image, attributes)
        return await self._execute(request, image, CreateImage(attributes, request.caller.is_admin))

    async def update(
        self, request: Request, image: ImageId, attributes: ImageAttributes, mask: tuple[str, ...], etag: str
    ) -> Image:
        """Change the attributes that ``mask`` names.

        Raises:
            NotFoundError, NotPermittedError: it is not the caller's to change, or an override is not.
            EtagMismatchError: it has changed since.
            PreconditionError: an attribute is fixed by now, or names an image that is not there, or of another kind.
        """
        found = await self._require_own(request, image)
        await self._links.check_change(request.caller, found.attributes, merged(found.attributes, attributes, mask))
        return await self._execute(request, image, UpdateImage(attributes, mask, etag, request.caller.is_admin))

    async def delete(self, request: Request, image: ImageId, etag: str, *, skip_delay: bool = False) -> Image:
        """Remove the image; also one that others name as their kernel or ramdisk, as in Glance.

        Its bytes go when the site's delay has passed; at once with ``skip_delay``, which may come later as well.

        Raises:
            NotFoundError, NotPermittedError: it is not the caller's to change.
            ImageProtectedError: its owner has protected it.
        """
        await self._require_own(request, image)
        if skip_delay or not self._rules.delete_delay_s:
            return await self._execute(request, image, DeleteImage(etag, skip_delay=skip_delay))
        delay = timedelta(seconds=self._rules.delete_delay_s)
        return await self._execute(request, image, lambda at: DeleteImage(etag, at + delay))

    async def restore(self, request: Request, image: ImageId) -> Image:
        """Undo the image's deletion. An import that the deletion ended stays ended: the image waits for bytes again.

        Raises:
            NotFoundError, NotPermittedError: it is not the caller's to change.
            ImageNotDeletedError: it is not deleted, or cannot be restored any more.
            HistoryFullError: it has been changed too often.
        """
        await self._require_own(request, image)
        return await self._execute(request, image, RestoreImage)

    async def copy(self, request: Request, image: ImageId, placement: Placement) -> Image:
        """Begin to copy the image's bytes to further stores.

        Raises:
            InvalidPlacementError, StoreNotFoundError: the stores cannot be had.
            NotFoundError, NotPermittedError: the image is not the caller's to change.
            PreconditionError, CopyExistsError: there is nothing to copy, or a copy is being made.
        """
        checked = checked_copy(placement, self._rules.stores)
        await self._require_own(request, image)
        operation = OperationId(request.derived_id("operation", image))
        return await self._execute(request, image, RequestCopy(operation, checked))

    async def remove_copy(self, request: Request, image: ImageId, store: str, etag: str) -> Image:
        """Give up the copy in one store; also in one that is not configured any more.

        Raises:
            NotFoundError, NotPermittedError: the image is not the caller's to change, or has no copy there.
            LastCopyError: there is no other sound copy.
            ImageProtectedError, ImageBusyError: its owner has protected it, or it is being copied.
        """
        await self._require_own(request, image)
        return await self._execute(request, image, RemoveCopy(store, etag))

    async def import_(self, request: Request, image: ImageId, source: ImportSource, placement: Placement) -> Image:
        """Begin to fetch the image's bytes, for the stores that ``placement`` says.

        Raises:
            InvalidUriError, InvalidSizeError: the source cannot be asked for.
            InvalidPlacementError, StoreNotFoundError: the stores cannot be had.
            NotFoundError, NotPermittedError: the image is not the caller's to change.
            PreconditionError: the image cannot take bytes now.
        """
        checked = checked_source(source, max_size_bytes=self._rules.max_image_bytes)
        stores = checked_placement(placement, self._rules.stores)
        await self._require_own(request, image)
        operation = OperationId(request.derived_id("operation", image))
        return await self._execute(request, image, RequestImport(operation, checked, stores))

    async def cancel(self, request: Request, image: ImageId, operation: OperationId) -> Image:
        """End a running operation.

        Raises:
            OperationNotFoundError: it is not the image's newest one.
            OperationDoneError: it has ended.
        """
        await self._require_own(request, image)
        return await self._execute(request, image, CancelOperation(operation))

    async def _require_own(self, request: Request, image: ImageId) -> Image:
        # The owner of an image never changes, so this stays true until the command is appended. A deleted image passes:
        # the journal knows whether this is the repeated request that deleted it, and refuses all others.
        found = await self._journal.load(image)
        if found is None or not (request.caller.is_admin or found.project == request.caller.project):
            return changeable(found, request.caller)
        return found

    async def _execute(self, request: Request, image: ImageId, command: Asked) -> Image:
        if request.is_validate_only:
            return await self._foreseen(request, image, command)
        executed = await self._journal.execute(
            image, command, project=request.caller.project, command_id=request.command_id, context=request.context
        )
        return executed.image

    async def _foreseen(self, request: Request, image: ImageId, command: Asked) -> Image:
        before, now = await self._journal.load(image), self._clock.now()
        event = NewEvent(
            image_id=image,
            project=before.project if before else request.caller.project,
            command_id=request.command_id,
            event_id=str(uuid.uuid4()),
            time=now,
            payload=decide(before, command_at(command, now)),
            context=request.context,
        )
        version, position = (before.version, before.position) if before else (0, 0)
        return evolve(before, RecordedEvent(event, version + 1, position, "", ""))
