"""``tintype operation``: uploads and imports that go on by themselves."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.arguments import OperationArgument
from tintype.cli.bars import step_bars
from tintype.cli.session import Session, command

if TYPE_CHECKING:
    from tintype.client import Operation, Upload

app = typer.Typer(help="Uploads and imports that go on by themselves.", no_args_is_help=True)


@command(app, "show")
async def show(session: Session, operation: OperationArgument) -> None:
    """Show how an operation stands."""
    session.printer.one(await session.client.operations.get(operation))


@command(app, "wait")
async def wait(
    session: Session,
    operation: OperationArgument,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up waiting after this.")
    ] = None,
) -> None:
    """Wait until an operation is done; a failure is an error."""
    session.printer.one(await follow_to_end(session, operation, timeout_s=timeout_s))


@command(app, "cancel")
async def cancel(session: Session, operation: OperationArgument) -> None:
    """End a running operation; its image is queued again."""
    session.printer.one(await session.client.operations.cancel(operation))


async def follow_to_end(
    session: Session, operation: str | Operation | Upload, *, timeout_s: float | None = None
) -> Operation:
    """Show progress until the operation is done.

    Raises:
        OperationFailedError: it failed.
        CancelledOperationError: it was cancelled.
    """
    from tintype.client.operations import succeeded

    with step_bars() as show_step:
        async with aclosing(session.client.operations.follow(operation, timeout_s=timeout_s)) as states:
            async for state in states:
                show_step(state)
                if state.done:
                    return succeeded(state)
    raise AssertionError("following ends only with an operation that is done")
