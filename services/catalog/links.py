"""Images that name others: the kernel and the ramdisk that a machine image of the Amazon kind boots with.

A link is checked when it is set or changed. What it names may be deleted later, as in Glance: a link is no claim.
"""

from __future__ import annotations

from collections.abc import Mapping

from tintype.domain.access import Caller, visible
from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import ImageNotFoundError, InvalidIdentifierError, LinkedImageError
from tintype.domain.values import DiskFormat, ImageId, PropertyValue, image_id
from tintype.runtime.journal import Journal

LINKS: Mapping[str, DiskFormat] = {"kernel_id": DiskFormat.AKI, "ramdisk_id": DiskFormat.ARI}
"""Properties that name an image, and the format that it has to be of."""


class Links:
    """Checks what images say of each other, in the log's own state."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def check(self, caller: Caller, image: ImageId, attributes: ImageAttributes) -> None:
        """Check the links of an image that is to be made.

        Raises:
            LinkedImageError: one names an image that does not exist for the caller, or of another kind.
        """
        if not _links(attributes):
            return
        # A request that is repeated has made the image already, and what it names may be gone by now.
        found = await self._journal.load(image)
        await self.check_change(caller, found.attributes if found else ImageAttributes(), attributes)

    async def check_change(self, caller: Caller, before: ImageAttributes, after: ImageAttributes) -> None:
        """Check the links that differ between ``before`` and ``after``, those that an administrator sets included.

        Raises:
            LinkedImageError: one names an image that does not exist for the caller, or of another kind.
        """
        known = _links(before)
        for place, value in _links(after).items():
            if known.get(place) != value:
                await self._check_link(caller, place[1], value)

    async def _check_link(self, caller: Caller, key: str, value: PropertyValue) -> None:
        try:
            linked = visible(await self._journal.load(image_id(str(value))), caller)
        except InvalidIdentifierError:
            raise LinkedImageError(f"{key} must be the id of an image, and {str(value)[:80]!r} is none") from None
        except ImageNotFoundError:
            raise LinkedImageError(f"{key} names image {value}, and there is no such image") from None
        found = linked.attributes.disk_format
        if found is not LINKS[key]:
            raise LinkedImageError(
                f"{key} names image {linked.id}, which must be of disk format {LINKS[key]}, and is of {found}"
            )


def _links(attributes: ImageAttributes) -> dict[tuple[str, str], PropertyValue]:
    """The links by where they stand and by their key."""
    places = {"property": attributes.properties, "override": attributes.overrides}
    return {(place, key): values[key] for place, values in places.items() for key in LINKS if key in values}
