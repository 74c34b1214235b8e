"""``tintype token``: tokens for those who may call services that know their callers by them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from tintype.cli.session import Session, command, usage_error
from tintype.codec.tokens import ANY_PROJECT, digest_of, entry_of, new_token
from tintype.domain.errors import InvalidIdentifierError
from tintype.domain.values import project_id

app = typer.Typer(help="Tokens by which services know their callers ([auth] tokens_file).", no_args_is_help=True)

_ACTOR = re.compile(r"[\x21-\x7e]{1,128}")


@command(app, "create", offline_with="actor")
async def create(
    session: Session,
    actor: Annotated[str, typer.Argument(help="Whose it is, as the log shall tell: one word.")],
    token_file: Annotated[
        Path, typer.Option("--token-file", metavar="FILE", help="Gets the token, for its owner alone; must not exist.")
    ],
    projects: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="PROJECT", help="A project that it is good for; repeatable; * is every one."),
    ] = None,
    is_admin: Annotated[
        bool, typer.Option("--administrator", help="It may speak as an administrator (`tintype --admin`).")
    ] = False,
) -> None:
    """Make a token, and print the entry to append to the services' file of tokens. Asks no service.

    The entry holds the token's digest: it tells nobody the token. Without --for it is good for project default.
    """
    named = [_project(text) for text in projects or ["default"]]
    if not _ACTOR.fullmatch(actor):
        raise usage_error("the actor must be one word of at most 128 printable ASCII characters")
    token = new_token()
    try:
        descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise usage_error(f"{token_file} is there already, and its token may be in use: name another file") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
    if session.printer.is_table:
        for line in entry_of(token, actor, named, is_admin=is_admin).splitlines():
            session.printer.line(line)
    else:
        grant = {"actor": actor, "sha256": digest_of(token), "projects": named, "admin": is_admin}
        session.printer.one({**grant, "token_file": str(token_file)})


def _project(text: str) -> str:
    try:
        return text if text == ANY_PROJECT else project_id(text)
    except InvalidIdentifierError as exc:
        raise usage_error(exc.message) from None
