"""``tintype image``: what becomes of an image's copies: more, fewer, none, again; and where they can be fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.arguments import ImageArgument, parse_duration_s
from tintype.cli.placement_options import PlacementOptions
from tintype.cli.plain import plain
from tintype.cli.sending import finish
from tintype.cli.session import Session, command, usage_error

if TYPE_CHECKING:
    from tintype.client import Image, ImageLocation

_COPY_EXAMPLES = """\b
Examples:
  tintype image copy web --store s3
  tintype image copy web --store s3,ceph --all-stores-must-succeed
  tintype image copy web --all-stores --no-wait
"""

_DELETE_EXAMPLES = """\b
Examples:
  tintype image delete web                 can be restored, where the deployment has a delay
  tintype image delete web --now           its bytes go at once
  tintype image delete web --store s3      only the copy there; never the last one
"""

_RESTORE_EXAMPLES = """\b
Example:
  tintype image restore 0f0f5f2c-6f43-4f0b-9d3a-2f8b9a3d1c11
"""

_LOCATIONS_EXAMPLES = """\b
Examples:
  tintype --admin image locations web --expires-in 15m
  tintype --admin image locations web -o json | jq -r '.[0].url'
"""

LOCATION_COLUMNS = ("Store", "Kind", "URL", "Expires")


def register(app: typer.Typer) -> None:
    """Add the commands to ``tintype image``."""
    command(app, "copy", epilog=_COPY_EXAMPLES)(copy)
    command(app, "delete", epilog=_DELETE_EXAMPLES)(delete)
    command(app, "restore", epilog=_RESTORE_EXAMPLES)(restore)
    command(app, "locations", epilog=_LOCATIONS_EXAMPLES)(locations)


async def copy(
    session: Session,
    image: ImageArgument,
    placement: PlacementOptions,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the copying until it is done.")] = True,
) -> None:
    """Copy an active image to further stores; it stays active all the while."""
    if not placement.is_given:
        raise usage_error("say where to: --store NAME, or --all-stores")
    words = placement.words()
    image_id = await session.image_id(image)
    await finish(session, image_id, await session.client.images.copy(image_id, **words), wait=wait)


async def delete(
    session: Session,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Ids, or names that no other image has.")],
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="NAME", help="Delete only the copy in this store; never the last one."),
    ] = None,
    now: Annotated[
        bool,
        typer.Option("--now", help="Have the bytes removed at once, also of an image that is deleted already (by id)."),
    ] = False,
) -> None:
    """Delete images and, soon after or once the deployment's delay has passed, their bytes.

    Until then `tintype image restore` brings an image back. With --store the image stays, and its copy there goes.
    """
    if store is not None and now:
        raise usage_error("--store deletes a copy, which goes at once by itself: leave out --now")
    ids = [await session.image_id(image) for image in images]
    calls = session.client.images
    if store is not None:
        deleted = [await calls.remove_copy(image_id, store) for image_id in ids]
    else:
        deleted = [await calls.delete(image_id, skip_delay=now) for image_id in ids]
    _print_deleted(session, deleted)


def _print_deleted(session: Session, deleted: list[Image]) -> None:
    if not session.printer.is_table:
        if len(deleted) == 1:
            session.printer.one(deleted[0])
        else:
            session.printer.many(deleted, (), ())
        return
    for image in deleted:
        session.printer.line(image.id)
    for image in deleted:
        if image.purge_after is not None:
            when = plain(image.purge_after)
            session.printer.note(f"note: until {when} it can be restored: tintype image restore {image.id}")


async def restore(
    session: Session,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Ids: deleted images are not found by their names.")
    ],
) -> None:
    """Bring back deleted images whose bytes are still there: before the time that `image delete` told.

    An upload or an import that was running when the image was deleted does not come back: the image is queued then, and
    has to be uploaded or imported again.
    """
    restored = [await session.client.images.restore(await session.image_id(image)) for image in images]
    if len(restored) == 1:
        session.printer.image(restored[0])
    elif session.printer.is_table:
        for image in restored:
            session.printer.line(image.id)
    else:
        session.printer.many(restored, (), ())


async def locations(
    session: Session,
    image: ImageArgument,
    expires_in_s: Annotated[
        int | None,
        typer.Option(
            "--expires-in",
            metavar="TIME",
            parser=parse_duration_s,
            help="How long they shall work: 900, 15m, 1h, 2d; at most what the deployment allows. Default: its own.",
        ),
    ] = None,
) -> None:
    """Tell where a compute service can fetch or clone an active image by itself, the best place first.

    For services that the deployment lets do so. Whoever has the URL may be able to read the image: keep it secret.
    """
    found = await session.client.images.locations(await session.image_id(image), expires_in_s=expires_in_s or 0)
    session.printer.many(found, LOCATION_COLUMNS, [_row(location) for location in found])
    if not found and session.printer.is_table:
        session.printer.note("note: none of the image's stores hands bytes over: download the image")


def _row(location: ImageLocation) -> tuple[str, ...]:
    return location.store, location.kind, location.url, str(plain(location.expires_at) or "never")
