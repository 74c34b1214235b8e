"""``tintype events``: the facts as the log has them."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

import typer

from tintype.cli.arguments import AfterOption
from tintype.cli.plain import plain
from tintype.cli.session import Session, command

app = typer.Typer(help="The facts, straight from the log.", no_args_is_help=True)

_FOLLOW_EXAMPLES = """\b
Examples:
  tintype events follow --type published
  tintype events follow --after 0 -o json
"""

_STORES_EXAMPLES = """\b
Examples:
  tintype events stores
  tintype events stores --after 0 --store main -o json
"""


@command(app, "follow", epilog=_FOLLOW_EXAMPLES)
async def follow(
    session: Session,
    after: AfterOption = None,
    image: Annotated[str | None, typer.Option(metavar="IMAGE", help="Only of this image.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only these, such as published; may be repeated.")
    ] = None,
    all_projects: Annotated[bool, typer.Option("--all-projects", help="Of every project, for operators.")] = False,
) -> None:
    """Print events as they happen, one line each, until Ctrl-C."""
    image_id = await session.image_id(image) if image else None
    events = session.client.events.subscribe(
        after=after, project="*" if all_projects else None, image_id=image_id, types=kind or ()
    )
    async with aclosing(events) as found:
        async for event in found:
            session.printer.change(event)


@command(app, "stores", epilog=_STORES_EXAMPLES)
async def stores(
    session: Session,
    after: AfterOption = None,
    store: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this store.")] = None,
) -> None:
    """Print changes of stores' states as they happen, one line each, until Ctrl-C.

    `--after 0` begins with those that are kept: the newest 256 of each store.
    """
    async with aclosing(session.client.events.stores(after=after, store=store)) as found:
        async for change in found:
            why = f": {change.message} [{change.reason}]" if change.reason else ""
            seen_by = f"as the {change.service} on {change.host} sees it"
            session.printer.item(
                change, f"{plain(change.since)}  {change.position}  {change.store} is {change.mode}, {seen_by}{why}"
            )
