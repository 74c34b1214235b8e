"""``tintype admin``: work on the catalog and the log, for operators."""

from __future__ import annotations

from contextlib import aclosing

import typer

from tintype.cli.bars import byte_bar
from tintype.cli.session import Session, command

app = typer.Typer(help="Work on the catalog and the log, for operators.", no_args_is_help=True)


@command(app, "rebuild")
async def rebuild(session: Session) -> None:
    """Build the catalog's tables anew from the log, beside those in use, and switch."""
    from tintype.client import ServiceDefectError

    state = None
    with byte_bar("events") as report:
        async with aclosing(session.client.admin.rebuild()) as states:
            async for state in states:
                if report:
                    report(state.position, state.head)
    if state is None or not state.switched:
        raise ServiceDefectError("the rebuild ended before its tables were in use")
    session.printer.one(state)


@command(app, "check-log")
async def check_log(session: Session) -> None:
    """Read the whole log, and verify the chain of hashes of every image."""
    from tintype.client import IntegrityError

    with byte_bar("events") as report:
        found = await session.client.events.check_log(on_progress=report)
    session.printer.one(found)
    if found.faults:
        raise IntegrityError(
            f"the log is damaged in {len(found.faults)} places",
            reason="LOG_CORRUPT",
            hint="Compare it with a backup, and look for who could write to the log's files.",
        )
