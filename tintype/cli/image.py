"""``tintype image``: make, list, show, change and delete images, and see what happened to them."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

import typer

from tintype.cli.arguments import (
    MAX_INT64,
    AfterOption,
    AsOfOption,
    ClearOverrideOption,
    ContainerFormatOption,
    DiskFormatOption,
    HiddenOption,
    ImageArgument,
    MinDiskOption,
    MinRamOption,
    NameOption,
    OverrideOption,
    PropertyOption,
    ProtectedOption,
    TagOption,
    VisibilityOption,
    parse_pairs,
)
from tintype.cli.event_view import EVENT_COLUMNS, event_row
from tintype.cli.new_image import NewImage
from tintype.cli.printer import IMAGE_COLUMNS, image_row
from tintype.cli.session import Session, command
from tintype.domain.lifecycle import Status
from tintype.domain.values import Visibility

app = typer.Typer(
    help="Images: create, import, upload, sign, list, show, set, copy, delete, restore, download, prove.",
    no_args_is_help=True,
)

_SET_ATTEMPTS = 5


@command(app, "create")
async def create(
    session: Session,
    new: NewImage,
    positional_name: Annotated[str | None, typer.Argument(metavar="NAME", help="The image's name.")] = None,
) -> None:
    """Make an image without bytes: upload or import them later."""
    session.printer.image(await new.create(session, positional_name))


@command(app, "list")
async def list_images(
    session: Session,
    name: NameOption = None,
    status: Annotated[Status | None, typer.Option(help="Only those in this state.", case_sensitive=False)] = None,
    visibility: Annotated[Visibility | None, typer.Option(help="Only those.", case_sensitive=False)] = None,
    owner: Annotated[str | None, typer.Option(help="Only those of this project.")] = None,
    tag: TagOption = None,
    properties: PropertyOption = None,
    hidden: Annotated[bool | None, typer.Option("--hidden/--no-hidden", help="Only hidden ones.")] = None,
    filter_expression: Annotated[
        str, typer.Option("--filter", help='More of the same, such as: size>=1048576 AND properties.os_distro="debian"')
    ] = "",
    sort: Annotated[str, typer.Option(metavar="KEY[:asc|:desc][,…]", help="Default: created_at:desc.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, max=MAX_INT64, help="At most so many.")] = None,
) -> None:
    """List images, the newest first."""
    found = session.client.images.list(
        name=name,
        status=status,
        visibility=visibility,
        owner=owner,
        tags=tag or (),
        properties=parse_pairs(properties or ()),
        hidden=hidden,
        filter=filter_expression,
        order_by=_order(sort),
        limit=limit,
    )
    images = [image async for image in found]
    session.printer.many(images, IMAGE_COLUMNS, [image_row(image) for image in images])


def _order(sort: str) -> str:
    """The API's order from Glance's way of writing it."""
    words = [word.strip().replace(":", " ") for word in sort.split(",") if word.strip()]
    return ", ".join(word.removesuffix(" asc") for word in words)


@command(app, "show")
async def show(session: Session, image: ImageArgument, as_of: AsOfOption = None) -> None:
    """Show one image, as it is or as it was."""
    if as_of is None:
        session.printer.image(await session.find(image))
    else:
        session.printer.image(await session.client.images.get(await session.image_id(image), as_of=as_of))


@command(app, "set")
async def set_image(
    session: Session,
    image: ImageArgument,
    name: NameOption = None,
    disk_format: DiskFormatOption = None,
    container_format: ContainerFormatOption = None,
    visibility: VisibilityOption = None,
    min_disk: MinDiskOption = None,
    min_ram: MinRamOption = None,
    protected: ProtectedOption = None,
    hidden: HiddenOption = None,
    tag: TagOption = None,
    remove_tag: Annotated[list[str] | None, typer.Option("--remove-tag", metavar="TAG", help="Take it away.")] = None,
    properties: PropertyOption = None,
    remove_property: Annotated[
        list[str] | None, typer.Option("--remove-property", metavar="KEY", help="Take it away.")
    ] = None,
    overrides: OverrideOption = None,
    clear_override: ClearOverrideOption = None,
) -> None:
    """Change what is given, and leave the rest."""
    from tintype.client import ConflictError

    image_id = await session.image_id(image)
    pairs, put = parse_pairs(properties or ()), parse_pairs(overrides or (), "--override")
    for attempt in range(_SET_ATTEMPTS):
        tags, etag = None, ""
        if tag or remove_tag:
            # Tags are replaced as a whole: only if nobody else has changed them meanwhile.
            current = await session.client.images.get(image_id)
            tags, etag = sorted((set(current.tags) | set(tag or ())) - set(remove_tag or ())), current.etag
        try:
            changed = await session.client.images.update(
                image_id,
                name=name,
                disk_format=disk_format,
                container_format=container_format,
                visibility=visibility,
                min_disk=min_disk,
                min_ram=min_ram,
                protected=protected,
                hidden=hidden,
                tags=tags,
                properties=pairs,
                remove_properties=remove_property or (),
                overrides=put,
                clear_overrides=clear_override or (),
                etag=etag,
            )
        except ConflictError:
            if not etag or attempt == _SET_ATTEMPTS - 1:
                raise
        else:
            session.printer.image(changed)
            return


@command(app, "history")
async def history(session: Session, image: ImageArgument, as_of: AsOfOption = None) -> None:
    """List what has happened to an image, oldest first."""
    image_id = await session.image_id(image)
    events = [event async for event in session.client.images.history(image_id, as_of=as_of)]
    session.printer.many(events, EVENT_COLUMNS, [event_row(event) for event in events])


@command(app, "watch")
async def watch(
    session: Session,
    image: Annotated[str | None, typer.Argument(metavar="IMAGE", help="Only this image.")] = None,
    after: AfterOption = None,
) -> None:
    """Print what happens, one line each, with the progress of running steps, until Ctrl-C."""
    image_id = await session.image_id(image) if image else ""
    async with aclosing(session.client.images.watch(image_id, after=after)) as changes:
        async for change in changes:
            session.printer.change(change)
