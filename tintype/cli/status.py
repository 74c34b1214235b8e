"""``tintype status``: the whole deployment at a glance."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.exit_codes import ExitCode, exit_code_list
from tintype.cli.plain import plain, to_json
from tintype.cli.session import OutputFormat, Session, command
from tintype.cli.status_view import shown

if TYPE_CHECKING:
    from tintype.client import SystemStatus

_EPILOG = """\b
Examples:
  tintype status
  tintype status --watch
  tintype status -o json | jq '.problems[] | select(.grade == "bad")'

""" + exit_code_list((ExitCode.OK, ExitCode.USAGE, ExitCode.NOT_WELL, ExitCode.INTERRUPTED))


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @command(app, "status", epilog=_EPILOG)
    async def status(
        session: Session,
        watch: Annotated[
            bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C; in JSON one line each time.")
        ] = False,
        interval_s: Annotated[
            float, typer.Option("--interval", min=0.5, max=3600, metavar="SECONDS", help="How long --watch rests.")
        ] = 2.0,
    ) -> None:
        """Show how everything is, for administrators: what is wrong first, then services, log, work, images, stores.

        Fails if something does not work. What is only doubtful is shown, and is no failure. What is away is told as
        such, and hides nothing else.
        """
        if watch:
            await _watch(session, interval_s)
        found = await session.client.admin.status()
        _print(session, found)
        if found.grade == "bad":
            raise typer.Exit(ExitCode.NOT_WELL)


def _print(session: Session, found: SystemStatus) -> None:
    if session.printer.is_table:
        session.printer.show(shown(found))
    else:
        session.printer.one(found)


async def _watch(session: Session, interval_s: float) -> None:
    """Show it anew until interrupted: in place on a terminal, else one after the other."""
    if session.printer.is_table and sys.stdout.isatty():
        with session.printer.in_place() as show:
            while True:
                show(shown(await session.client.admin.status()))
                await asyncio.sleep(interval_s)
    while True:
        found = await session.client.admin.status()
        if session.printer.output is OutputFormat.JSON:
            session.printer.line(to_json(plain(found)))
        else:
            _print(session, found)
        await asyncio.sleep(interval_s)
