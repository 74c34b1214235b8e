"""The catalog's gRPC face: reads a request, asks, writes the answer. Every rule is somewhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.catalog.commands import Commands
from services.catalog.reading import ListRequest, Reading
from services.catalog.requests import Context, as_of, freshness_of, request_of
from services.catalog.watching import Change, Watch, Watching
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.catalog.v1.catalog_pb2_grpc import CatalogServiceServicer
from tintype.codec import values
from tintype.codec.call_metadata import POSITION_KEY
from tintype.codec.events import encode_event
from tintype.codec.images import decode_update_mask, encode_image, encode_operation
from tintype.codec.provenance import encode_provenance
from tintype.domain.errors import InternalError, InvalidArgumentError
from tintype.domain.events import Progress
from tintype.domain.image import Image
from tintype.domain.lifecycle import next_step
from tintype.domain.values import image_id
from tintype.ports.event_log import EventLog
from tintype.runtime.auth import current_caller

_ENCODED_AT_ONCE = 100


class CatalogServicer(CatalogServiceServicer):
    """Images and their histories."""

    def __init__(self, commands: Commands, reading: Reading, watching: Watching, event_log: EventLog) -> None:
        self._commands = commands
        self._reading = reading
        self._watching = watching
        self._log = event_log

    async def CreateImage(self, request: pb.CreateImageRequest, context: Context) -> pb.Image:
        """Make an image without bytes."""
        asked = request_of(context, request.request_id, is_validate_only=request.validate_only)
        attributes = values.decode_attributes(request.image)
        return encode_image(await self._commands.create(asked, request.image_id, attributes))

    async def GetImage(self, request: pb.GetImageRequest, context: Context) -> pb.Image:
        """An image, now or then."""
        caller, image = current_caller(), image_id(request.image_id)
        freshness, then = freshness_of(context, request.min_position), as_of(request)
        if then is None:
            return encode_image(await self._reading.image(caller, image, freshness))
        return encode_image(await self._reading.image_as_of(caller, image, then, freshness))

    async def ListImages(self, request: pb.ListImagesRequest, context: Context) -> pb.ListImagesResponse:
        """A page of images."""
        asked = ListRequest(request.filter, request.order_by, request.page_size, request.page_token)
        freshness = freshness_of(context, request.min_position)
        images, next_token = await self._reading.images(current_caller(), asked, freshness)
        if len(images) <= _ENCODED_AT_ONCE:
            return _encoded_page(images, next_token)
        # A page of a thousand images would hold up all other calls for too long.
        return await asyncio.to_thread(_encoded_page, images, next_token)

    async def UpdateImage(self, request: pb.UpdateImageRequest, context: Context) -> pb.Image:
        """Change attributes."""
        asked = request_of(context, request.request_id, is_validate_only=request.validate_only)
        mask = decode_update_mask(request, may_override=asked.caller.is_admin)
        attributes = values.decode_attributes(request.image)
        image = await self._commands.update(asked, image_id(request.image.id), attributes, mask, request.image.etag)
        return encode_image(image)

    async def DeleteImage(self, request: pb.DeleteImageRequest, context: Context) -> pb.Image:
        """Remove an image."""
        asked = request_of(context, request.request_id, is_validate_only=request.validate_only)
        image = image_id(request.image_id)
        return encode_image(await self._commands.delete(asked, image, request.etag, skip_delay=request.skip_delay))

    async def RestoreImage(self, request: pb.RestoreImageRequest, context: Context) -> pb.Image:
        """Undo a deletion."""
        asked = request_of(context, request.request_id, is_validate_only=request.validate_only)
        return encode_image(await self._commands.restore(asked, image_id(request.image_id)))

    async def ImportImage(self, request: pb.ImportImageRequest, context: Context) -> pb.Operation:
        """Begin to fetch an image's bytes."""
        asked = request_of(context, request.request_id, is_validate_only=request.validate_only)
        source = values.decode_source(request.source)
        placement = values.decode_placement(request.placement)
        return newest_operation(await self._commands.import_(asked, image_id(request.image_id), source, placement))

    async def CopyImage(self, request: pb.CopyImageRequest, context: Context) -> pb.Operation:
        """Begin to copy an image to further stores."""
        asked = request_of(context, request.request_id, is_validate_only=request.validate_only)
        placement = values.decode_placement(request.placement)
        return newest_operation(await self._commands.copy(asked, image_id(request.image_id), placement))

    async def RemoveCopy(self, request: pb.RemoveCopyRequest, context: Context) -> pb.Image:
        """Give up the copy in one store."""
        asked = request_of(context, request.request_id, is_validate_only=request.validate_only)
        image = image_id(request.image_id)
        return encode_image(await self._commands.remove_copy(asked, image, request.store, request.etag))

    async def GetProvenance(self, request: pb.GetProvenanceRequest, context: Context) -> pb.Provenance:
        """The chain from what a publisher signed to the bytes that are served."""
        caller, image = current_caller(), image_id(request.image_id)
        freshness = freshness_of(context, request.min_position)
        return encode_provenance(await self._reading.provenance(caller, image, freshness))

    async def ListImageEvents(self, request: pb.ListImageEventsRequest, context: Context) -> pb.ListImageEventsResponse:
        """A page of an image's history."""
        events, next_token = await self._reading.events(
            current_caller(),
            image_id(request.image_id),
            as_of(request),
            request.page_size,
            request.page_token,
            freshness_of(context, request.min_position),
        )
        return pb.ListImageEventsResponse(events=[encode_event(event) for event in events], next_page_token=next_token)

    async def WatchImages(  # type: ignore[override]  # it writes to the context, so that its tasks end with the call
        self, request: pb.WatchImagesRequest, context: Context
    ) -> None:
        """Everything that happens, until the client has heard enough."""
        caller = current_caller()
        image = image_id(request.image_id) if request.image_id else None
        if request.HasField("after_position"):
            after = request.after_position
        else:
            after = await self._log.head()
        if after < 0:
            raise InvalidArgumentError("after_position must not be negative")
        if image is not None:
            await self._reading.events(caller, image, None, 1, "", freshness_of(context, 0))  # may the caller see it?
        # The client knows from here on that nothing will be missed: a watch that breaks before its first event, such as
        # by a restart, begins at the same place again.
        await context.send_initial_metadata(((POSITION_KEY, str(after)),))
        await self._watching.run(Watch(caller, after, image), lambda change: context.write(encode_change(change)))


def _encoded_page(images: Sequence[Image], next_token: str) -> pb.ListImagesResponse:
    return pb.ListImagesResponse(images=[encode_image(image) for image in images], next_page_token=next_token)


def newest_operation(image: Image) -> pb.Operation:
    """The operation that a command has just begun or ended."""
    if image.operation is None:
        raise InternalError(f"image {image.id} has no operation")
    step = next_step(image) if image.operation.is_running else None
    return encode_operation(image.id, image.operation, step, image.position)


def encode_change(change: Change) -> pb.WatchImagesResponse:
    """A message of a watch."""
    if isinstance(change, Progress):
        return pb.WatchImagesResponse(progress=values.encode_progress(change))
    return pb.WatchImagesResponse(event=encode_event(change))
