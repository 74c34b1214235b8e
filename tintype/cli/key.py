"""``tintype key``: the service's own keys."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tintype.cli.plain import plain
from tintype.cli.session import Session, command

app = typer.Typer(
    help="The service's own keys: what it signs attestations, checkpoints and images with.", no_args_is_help=True
)

FOLDER = "service-keys"
"""Where a trust store has the certificates of a service's keys."""

_KEY_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,127}")


@command(app, "list")
async def list_keys(session: Session) -> None:
    """List the keys, newest first: the active one signs, the others verify what they signed before."""
    keys = await session.client.signer.keys()
    rows = [(key.id, key.key_type, "yes" if key.active else "", str(plain(key.created_at))) for key in keys]
    session.printer.many(keys, ("ID", "Type", "Active", "Created"), rows)


@command(app, "rotate")
async def rotate(
    session: Session,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="ID", help="The same id twice makes one key. Default: a new one.")
    ] = "",
) -> None:
    """Make a new key, which signs from now on; for administrators. The old ones stay, and verify."""
    session.printer.one(await session.client.signer.rotate(request_id=request_id or None), hidden=("certificate",))


@command(app, "export")
async def export(
    session: Session,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="A trust store; it is made.")] = Path("."),
) -> None:
    """Write the certificates of all keys to DIR/service-keys/ID.pem, for those who verify what the service signs."""
    keys = await session.client.signer.keys()
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for key in keys:
        if not _KEY_ID.fullmatch(key.id):  # the service's word, which becomes a file's name
            raise OSError(None, f"the service names a key {key.id[:80]!r}, which can be no file's name")
        paths.append(folder / f"{key.id}.pem")
        _write(paths[-1], key.certificate)
    if session.printer.is_table:
        for path in paths:
            session.printer.line(str(path))
    else:
        session.printer.many([str(path) for path in paths], (), ())


def _write(path: Path, content: str) -> None:
    """Whole or not at all; a link that waits there is replaced, and not followed."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with part.open("x") as file:
            file.write(content)
        os.replace(part, path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
