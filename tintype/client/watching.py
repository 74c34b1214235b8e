"""Following the catalog's changes through breaks of the stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.client import decoding
from tintype.client.errors import ServiceUnavailableError
from tintype.client.models import ImageEvent, Progress
from tintype.client.transport import Transport, is_transient
from tintype.codec.call_metadata import POSITION_KEY


async def watch_images(
    transport: Transport, image_id: str, after: int | None
) -> AsyncGenerator[ImageEvent | Progress, None]:
    """Yield changes for ever; a stream that breaks goes on behind the last event that was seen.

    Raises:
        ClientError: the service refused, or did not answer within ``config.retry_s``.
    """
    position = after
    backoff = transport.backoff()

    def begun(metadata: Mapping[str, str]) -> None:
        nonlocal position
        told = metadata.get(POSITION_KEY, "")
        if position is None and told.isascii() and told.isdigit():
            position = int(told)

    while True:
        request = pb.WatchImagesRequest(after_position=position, image_id=image_id)
        try:
            async with aclosing(transport.stream(transport.catalog.WatchImages, request, begun=begun)) as messages:
                async for message in messages:
                    backoff = transport.backoff()
                    change = decoding.change(message)
                    if isinstance(change, ImageEvent):
                        position = change.position
                        transport.observe(change.position)
                    if change is not None:
                        yield change
        except ServiceUnavailableError as exc:
            if not is_transient(exc) or not await backoff.pause():
                raise
        else:
            # A service that drains ends its streams in good order: the next replica goes on.
            if not await backoff.pause():
                raise ServiceUnavailableError("the catalog ends every watch at once")
