"""What every command does alike: the options that all have, the connection, errors and exit codes.

A command's body is a coroutine over a :class:`Session`; :func:`command` makes a Typer command of it.
Options that several commands have are a dataclass, which a body takes as one parameter.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from tintype.cli.exit_codes import ExitCode, exit_code
from tintype.cli.printer import OutputFormat, Printer

if TYPE_CHECKING:
    from tintype.client import Client, Image

P = ParamSpec("P")

_LOCAL_FILE_HINT = "Look whether the path is right, and whether you may read or write there."

__all__ = ["GlobalOptions", "OutputFormat", "Session", "command", "ended", "usage_error"]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """What may be given before the command, and on every command."""

    output: OutputFormat = OutputFormat.TABLE
    config: Path | None = None
    project: str | None = None
    admin: bool = False


class Session:
    """A connected client, and where to print; a command that asks no service has no client.

    ``project`` is the one that the command line names, if it names one.
    """

    def __init__(self, client: Client | None, printer: Printer, project: str | None = None) -> None:
        self._client = client
        self.printer = printer
        self.project = project

    @property
    def client(self) -> Client:
        """The connected client."""
        if self._client is None:
            raise RuntimeError("a command that asks no service has no client")
        return self._client

    async def image_id(self, name_or_id: str) -> str:
        """The id that is meant: an id is taken as it is, a name is looked up.

        Raises:
            NotFoundError: no image has that name.
            ConflictError: several have.
        """
        from tintype.client.naming import is_uuid

        return name_or_id.lower() if is_uuid(name_or_id) else (await self.find(name_or_id)).id

    async def find(self, name_or_id: str) -> Image:
        """The image of that id, or the only one of that name.

        Raises:
            NotFoundError: there is none.
            ConflictError: several have that name.
        """
        return await self.client.images.find(name_or_id)


def command(
    app: typer.Typer, name: str, *, offline_with: str = "", epilog: str | None = None
) -> Callable[[Callable[Concatenate[Session, P], Awaitable[None]]], Callable[Concatenate[Session, P], Awaitable[None]]]:
    """Make the decorated coroutine the command ``name`` of ``app``, with the options that all commands have.

    Where its parameter ``offline_with`` is given, no configuration is looked for, and no service asked. The help ends
    with the ``epilog``.
    """

    def register(
        body: Callable[Concatenate[Session, P], Awaitable[None]],
    ) -> Callable[Concatenate[Session, P], Awaitable[None]]:
        app.command(name, epilog=epilog)(_typer_function(body, offline_with))
        return body

    return register


def usage_error(message: str) -> typer.BadParameter:
    """A wrong use of the command, to be raised: exit code 2."""
    return typer.BadParameter(message)


def _typer_function(body: Callable[..., Awaitable[None]], offline_with: str) -> Callable[..., None]:
    own, groups = _own_parameters(body)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *own,
        *(inspect.Parameter(name, keyword, default=None, annotation=hint) for name, hint in _SHARED.items()),
    ]

    def run(ctx: typer.Context, **given: Any) -> None:
        first: GlobalOptions = ctx.find_root().obj or GlobalOptions()
        output, config, project, admin = (given.pop(name) for name in _SHARED)
        options = GlobalOptions(
            output or first.output, config or first.config, project or first.project, admin or first.admin
        )
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        is_offline = given.get(offline_with) is not None
        raise typer.Exit(_execute(options, lambda session: body(session, **given), is_offline=is_offline))

    run.__doc__ = body.__doc__
    run.__name__ = body.__name__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _own_parameters(body: Callable[..., Awaitable[None]]) -> tuple[list[inspect.Parameter], dict[str, type[Any]]]:
    """A command's own arguments and options, and its parameters that are dataclasses of them."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    hints = get_type_hints(body, include_extras=True)
    own: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in list(inspect.signature(body).parameters.values())[1:]:
        hint = hints[parameter.name]
        if not (isinstance(hint, type) and is_dataclass(hint)):
            own.append(parameter.replace(kind=keyword, annotation=hint))
            continue
        groups[parameter.name] = hint
        options = get_type_hints(hint, include_extras=True)
        own += [
            inspect.Parameter(field.name, keyword, default=field.default, annotation=options[field.name])
            for field in fields(hint)
        ]
    return own, groups


_SHARED = {
    "output": Annotated[OutputFormat | None, typer.Option("--output", "-o", help="How to print answers.")],
    "config": Annotated[Path | None, typer.Option("--config", help="The client's configuration.")],
    "project": Annotated[str | None, typer.Option("--project", help="The project on whose behalf to act.")],
    "admin": Annotated[bool | None, typer.Option("--admin", help="Speak as an administrator.")],
}


def _execute(options: GlobalOptions, body: Callable[[Session], Awaitable[None]], *, is_offline: bool) -> int:
    """Run a command's body; every expected error becomes a message and an exit code."""
    # What gRPC logs of each attempt to connect is told once, as the error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from tintype.client import ClientError, connect, load_config

    printer = Printer(options.output)

    async def run() -> None:
        if is_offline:
            await body(Session(None, printer))
            return
        config = load_config(options.config, project=options.project)
        # NATS' client makes asyncio warn of how its protocol ends over TLS, which means nothing to anybody.
        logging.getLogger("asyncio").setLevel(logging.ERROR)
        async with connect(replace(config, admin=config.admin or options.admin)) as client:
            await body(Session(client, printer, options.project))

    def work() -> int:
        try:
            asyncio.run(run())
        except ClientError as exc:
            printer.error(exc)
            return exit_code(exc)
        return ExitCode.OK

    return ended(printer, work)


def ended(printer: Printer, work: Callable[[], int]) -> int:
    """The exit code of ``work``, also where it is interrupted, a file fails it, or nobody reads its output."""
    try:
        return work()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output wants no more of it; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.REFUSED
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        printer.failure(f"{where}{exc.strerror or exc}", "LOCAL_FILE", _LOCAL_FILE_HINT, retryable=False)
        return ExitCode.REFUSED
