"""What may be said of an image that is made: the options of all commands that make one, and the making."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from tintype.cli.arguments import (
    ContainerFormatOption,
    DiskFormatOption,
    HiddenOption,
    IdOption,
    MinDiskOption,
    MinRamOption,
    NameOption,
    PropertyOption,
    ProtectedOption,
    TagOption,
    VisibilityOption,
    parse_pairs,
)
from tintype.cli.session import Session, usage_error

if TYPE_CHECKING:
    from tintype.client import Image


@dataclass(frozen=True, slots=True)
class NewImage:
    """Each field is an option, by :func:`tintype.cli.session.command`."""

    name: NameOption = None
    image_id: IdOption = ""
    disk_format: DiskFormatOption = None
    container_format: ContainerFormatOption = None
    visibility: VisibilityOption = None
    min_disk: MinDiskOption = None
    min_ram: MinRamOption = None
    protected: ProtectedOption = None
    hidden: HiddenOption = None
    tag: TagOption = None
    properties: PropertyOption = None

    @property
    def is_given(self) -> bool:
        """Whether anything is said."""
        return any(astuple(self))

    def require_formats(self) -> None:
        """Find out that bytes cannot come before an image is made for them.

        Raises:
            BadParameter: a format is missing.
        """
        if self.disk_format is None or self.container_format is None:
            raise usage_error("bytes need a --disk-format and a --container-format; for a plain disk that is bare")

    async def create(self, session: Session, positional_name: str | None = None) -> Image:
        """Make the image.

        Raises:
            BadParameter: it has two names, or a property that is no pair.
            ClientError: it was not made.
        """
        if positional_name is not None and self.name is not None:
            raise usage_error("give the name once: as an argument, or with --name")
        return await session.client.images.create(
            positional_name or self.name or "",
            image_id=self.image_id,
            disk_format=self.disk_format,
            container_format=self.container_format,
            visibility=self.visibility,
            min_disk=self.min_disk or 0,
            min_ram=self.min_ram or 0,
            protected=bool(self.protected),
            hidden=bool(self.hidden),
            tags=self.tag or (),
            properties=parse_pairs(self.properties or ()),
        )
