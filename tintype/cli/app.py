"""The commands put together, and what holds for all of them.

Nothing here imports gRPC or NATS, so that ``--help`` and completion answer at once: the SDK comes with the first call.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tintype import __version__
from tintype.cli import (
    admin,
    backup,
    events,
    image,
    image_copies,
    image_data,
    image_import,
    image_sign,
    info,
    inspect,
    key,
    operation,
    policy,
    provenance,
    stack,
    status,
    store,
    token,
)
from tintype.cli.exit_codes import MEANINGS, exit_code_list
from tintype.cli.session import GlobalOptions, OutputFormat

EPILOG = exit_code_list(MEANINGS)

app = typer.Typer(
    name="tintype",
    help="Images for virtual machines: upload, import, verify, convert, publish, download.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(image.app, name="image")
app.add_typer(store.app, name="store")
app.add_typer(operation.app, name="operation")
app.add_typer(events.app, name="events")
app.add_typer(policy.app, name="policy")
app.add_typer(key.app, name="key")
app.add_typer(token.app, name="token")
app.add_typer(admin.app, name="admin")
app.command("up")(stack.up)
app.command("inspect", epilog=inspect.EPILOG)(inspect.inspect)
image_data.register(image.app)
image_import.register(image.app)
image_copies.register(image.app)
provenance.register(image.app)
image.app.command("sign")(image_sign.sign)
backup.register(admin.app)
info.register(app)
status.register(app)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"tintype {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    ctx: typer.Context,
    output: Annotated[
        OutputFormat, typer.Option("--output", "-o", help="How to print answers; accepted on every command too.")
    ] = OutputFormat.TABLE,
    config: Annotated[
        Path | None, typer.Option(help="The client's configuration. Default: $TINTYPE_CONFIG, or the usual places.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="The project on whose behalf to act.")] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Speak as an administrator: see every project's images, set overrides.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
) -> None:
    ctx.obj = GlobalOptions(output, config, project, admin)
