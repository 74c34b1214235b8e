"""An image's copies in stores: more of them, one less, and where each can be fetched."""

from __future__ import annotations

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.importer.v1 import importer_pb2
from tintype.api.types.v1 import types_pb2
from tintype.client import decoding, store_decoding
from tintype.client.models import Image, Operation
from tintype.client.store_models import ImageLocation
from tintype.client.transport import Transport, new_request_id


class Copies:
    """The copies of one client's images; :class:`~tintype.client.images.Images` documents the calls."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def copy(
        self, image_id: str, placement: types_pb2.Placement | None, request_id: str | None, *, validate_only: bool
    ) -> Operation:
        """Begin to copy."""
        request = pb.CopyImageRequest(
            image_id=image_id,
            placement=placement,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        message = await self._transport.call(self._transport.catalog.CopyImage, request)
        self._transport.observe(message.position)
        return decoding.operation(message)

    async def remove(
        self, image_id: str, store: str, etag: str, request_id: str | None, *, validate_only: bool
    ) -> Image:
        """Give one copy up."""
        request = pb.RemoveCopyRequest(
            image_id=image_id,
            store=store,
            etag=etag,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        message = await self._transport.call(self._transport.catalog.RemoveCopy, request)
        self._transport.observe(message.position)
        return decoding.image(message)

    async def locations(self, image_id: str, expires_in_s: int) -> tuple[ImageLocation, ...]:
        """Where the image can be fetched, the best place first."""
        request = importer_pb2.ListImageLocationsRequest(image_id=image_id, expires_in_s=expires_in_s)
        answer = await self._transport.call(self._transport.importer.ListImageLocations, request)
        return tuple(store_decoding.location(message) for message in answer.locations)
