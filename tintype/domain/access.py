"""Who may see and change an image."""

from __future__ import annotations

from dataclasses import dataclass

from tintype.domain.errors import ImageNotFoundError, NotPermittedError
from tintype.domain.image import Image
from tintype.domain.lifecycle import Status
from tintype.domain.values import ProjectId, Visibility


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: the project that it is for, a name for the log, and whether it may do everything."""

    project: ProjectId
    actor: str
    is_admin: bool = False


def require_admin(caller: Caller, deed: str) -> None:
    """Check that the caller may do everything; ``deed`` says what it wants, for the refusal.

    Raises:
        NotPermittedError: it may not.
    """
    if not caller.is_admin:
        raise NotPermittedError(f"only an administrator may {deed}")


def may_see(image: Image, caller: Caller) -> bool:
    """Whether the caller may know that the image exists, and read its bytes."""
    open_to_all = image.attributes.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
    return caller.is_admin or image.project == caller.project or open_to_all


def visible(image: Image | None, caller: Caller) -> Image:
    """The image, if it exists for this caller.

    Raises:
        ImageNotFoundError: it does not exist, is deleted, or is not the caller's to see: all look the same.
    """
    if image is None or image.status is Status.DELETED or not may_see(image, caller):
        raise ImageNotFoundError("no such image")
    return image


def changeable(image: Image | None, caller: Caller) -> Image:
    """The image, if the caller may change it.

    Raises:
        ImageNotFoundError: as :func:`visible`.
        NotPermittedError: the caller may see it, and no more.
    """
    found = visible(image, caller)
    if not caller.is_admin and found.project != caller.project:
        raise NotPermittedError(f"image {found.id} belongs to another project")
    return found
