"""``tintype info``: what this deployment does."""

from __future__ import annotations

import typer

from tintype.cli.session import Session, command


def register(app: typer.Typer) -> None:
    """Add the command to ``tintype``."""
    command(app, "info")(info)


async def info(session: Session) -> None:
    """Tell what the deployment does with the images that it imports."""
    plugins = await session.client.importer.import_plugins()
    if not session.printer.is_table:
        session.printer.one({"import_plugins": plugins})
        return
    rows = [(each.plugin.value, "enabled" if each.enabled else "disabled", each.description) for each in plugins]
    session.printer.table(("Import plugin", "State", "What it does"), rows)
