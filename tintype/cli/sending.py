"""Bytes on their way to the service, and what is told of the image while and after they go."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tintype.cli.bars import byte_bar
from tintype.cli.operation import follow_to_end
from tintype.cli.placement_options import PlacementWords, failed_stores_note
from tintype.cli.session import Session

if TYPE_CHECKING:
    from tintype.client import LocalSigner, Operation, ServiceSigner, Upload


def require_file(file: str) -> None:
    """Find out that a file is not there before an image is made for it; - is standard input.

    Raises:
        OSError: it cannot be read.
    """
    if file != "-":
        Path(file).open("rb").close()


async def send(
    session: Session,
    image_id: str,
    file: str,
    placement: PlacementWords,
    *,
    stage: bool = False,
    size: int | None = None,
    expected_digest: str,
    signer: ServiceSigner | LocalSigner | None,
) -> Upload:
    """Send a file, or standard input, with a bar.

    Raises:
        ClientError: the bytes are refused, or did not arrive.
    """
    # Unbuffered: a thread that reads holds no lock of the interpreter's own, should Ctrl-C end it meanwhile.
    source: Path | BinaryIO = _standard_input() if file == "-" else Path(file)
    with byte_bar("upload") as report:
        return await session.client.images.upload(
            image_id,
            source,
            stage=stage,
            expected_size=size,
            expected_digest=expected_digest,
            sign=signer,
            on_progress=report,
            **placement,
        )


async def finish(session: Session, image_id: str, started: Upload | Operation, *, wait: bool) -> None:
    """Wait, if that is wanted, and print the image; its id where nobody waits.

    Raises:
        OperationFailedError: the operation failed.
        CancelledOperationError: it was cancelled.
    """
    if wait:
        with named_on_interrupt(session, image_id):
            await follow_to_end(session, started)
    elif session.printer.is_table:
        session.printer.line(image_id)
        return
    image = await session.client.images.get(image_id)
    session.printer.image(image)
    if (note := failed_stores_note(image)) and wait and session.printer.is_table:
        session.printer.note(note)


@asynccontextmanager
async def named_on_failure(session: Session, image_id: str) -> AsyncIterator[None]:
    """Tell which image it is whose bytes did not arrive: it can be tried again."""
    from tintype.client import ClientError, PreconditionError

    try:
        yield
    except PreconditionError:
        raise  # it says what the image has
    except (ClientError, OSError) as exc:
        if session.printer.is_table:
            session.printer.note(f"image {image_id} has no bytes")
        elif isinstance(exc, ClientError):
            exc.evidence = {**exc.evidence, "image_id": image_id}
        raise


@contextmanager
def named_on_interrupt(session: Session, image_id: str) -> Iterator[None]:
    """Tell whoever waits no longer that the work goes on, and how to look after it."""
    try:
        yield
    except asyncio.CancelledError:
        if session.printer.is_table:
            session.printer.note(f"the work on image {image_id} goes on: tintype image watch {image_id}")
        raise


def _standard_input() -> BinaryIO:
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (OSError, ValueError):
        # What stands in for it has no descriptor.
        return sys.stdin.buffer
