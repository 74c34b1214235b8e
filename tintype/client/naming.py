"""Which image a person means: an id, or a name that only one image has."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

from tintype.client.errors import ConflictError, NotFoundError
from tintype.client.models import Image

_LISTED = 10


class GetImage(Protocol):
    """Reads one image by its id."""

    def __call__(self, image_id: str) -> Awaitable[Image]:
        """The image."""
        ...


class ListImages(Protocol):
    """Lists the images of one name."""

    def __call__(self, *, name: str, hidden: bool, limit: int) -> AsyncIterator[Image]:
        """The images."""
        ...


async def find_image(name_or_id: str, get: GetImage, list_images: ListImages) -> Image:
    """The image of that id, or else the only one of exactly that name, hidden ones included.

    Raises:
        NotFoundError: there is none.
        ConflictError: reason ``NAME_NOT_UNIQUE``: several have that name; the message lists their ids.
    """
    if is_uuid(name_or_id):
        return await get(name_or_id.lower())
    found = [
        image for hidden in (False, True) async for image in list_images(name=name_or_id, hidden=hidden, limit=_LISTED)
    ]
    # A list that hides nothing answers some twice.
    images = list({image.id: image for image in found}.values())
    if not images:
        raise NotFoundError(
            f"there is no image named {name_or_id[:255]!r}",
            reason="IMAGE_NOT_FOUND",
            hint="Lists show the images that a project may see.",
        )
    if len(images) > 1:
        ids = ", ".join(image.id for image in images)
        raise ConflictError(
            f"{len(images)} images{' and more' * (len(images) >= _LISTED)} are named {name_or_id[:255]!r}: {ids}",
            reason="NAME_NOT_UNIQUE",
            hint="Give the id of the one that you mean.",
            retryable=False,
        )
    return images[0]


def is_uuid(text: str) -> bool:
    """Whether ``text`` has the form of an image's id."""
    try:
        return len(text) == 36 and bool(uuid.UUID(text))
    except ValueError:
        return False
