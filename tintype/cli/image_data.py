"""``tintype image``: the commands that move bytes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from tintype.cli.arguments import (
    MAX_INT64,
    ExpectedDigestOption,
    ExpectedSizeOption,
    ImageArgument,
    WaitOption,
)
from tintype.cli.bars import byte_bar
from tintype.cli.new_image import NewImage
from tintype.cli.operation import follow_to_end
from tintype.cli.origin import ChecksumsSignatureUrlOption, ChecksumsUrlOption, PublisherKeyOption, read_checksums
from tintype.cli.session import Session, command, usage_error
from tintype.cli.signing_options import SigningOptions
from tintype.cli.trusting import (
    AllowUnsignedOption,
    TrustedCertificateOption,
    TrustStoreOption,
    VerifyOption,
    print_custody,
    wanted_verification,
)
from tintype.domain.events import ImportMethod

if TYPE_CHECKING:
    from tintype.client import LocalSigner, Operation, ServiceSigner, Upload


def register(app: typer.Typer) -> None:
    """Add the commands to ``tintype image``."""
    command(app, "upload")(upload)
    command(app, "create-via-import")(create_via_import)
    command(app, "download")(download)


async def upload(
    session: Session,
    new: NewImage,
    signing: SigningOptions,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The image's bytes; - is standard input.")],
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Upload to this image, and make none.")
    ] = None,
    expected_digest: ExpectedDigestOption = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the image is active, which takes but a moment.")
    ] = True,
) -> None:
    """Make an image, and upload its bytes as they are; signed on the way with --sign or --sign-key."""
    if image is not None and new.is_given:
        raise usage_error("--image uploads to an image that exists: change it with `tintype image set`")
    _require_file(file)
    if image is None:
        new.require_formats()
    signer = signing.signer()
    target = await session.image_id(image) if image is not None else (await new.create(session)).id
    async with _named_on_failure(session, target):
        sent = await _send(session, target, file, expected_digest=expected_digest, signer=signer)
        await _finish(session, target, sent, wait=wait)


async def create_via_import(
    session: Session,
    new: NewImage,
    signing: SigningOptions,
    positional_name: Annotated[str | None, typer.Argument(metavar="NAME", help="The image's name.")] = None,
    import_method: Annotated[
        ImportMethod | None,
        typer.Option("--import-method", help="Default: what goes with --uri or --file.", case_sensitive=False),
    ] = None,
    uri: Annotated[str, typer.Option(help="Where the service shall fetch the bytes: http or https.")] = "",
    file: Annotated[str | None, typer.Option(help="The bytes to stage and import; - is standard input.")] = None,
    expected_size: ExpectedSizeOption = None,
    expected_digest: ExpectedDigestOption = "",
    checksums_url: ChecksumsUrlOption = "",
    checksums_signature_url: ChecksumsSignatureUrlOption = "",
    publisher_key: PublisherKeyOption = None,
    wait: WaitOption = False,
) -> None:
    """Make an image, and import its bytes: fetched from a URL, or staged from a file."""
    method = _method(import_method, uri, file)
    if signing.is_given and file is None:
        raise usage_error("what is signed is sent from here: give a --file")
    checksums = read_checksums(uri, checksums_url, checksums_signature_url, publisher_key)
    new.require_formats()
    if file is not None:
        _require_file(file)
    signer = signing.signer()
    image = await new.create(session, positional_name)
    async with _named_on_failure(session, image.id):
        if file is not None:
            await _send(
                session,
                image.id,
                file,
                stage=True,
                size=expected_size,
                expected_digest=expected_digest,
                signer=signer,
            )
        operation = await session.client.images.import_(
            image.id,
            method=method,
            uri=uri,
            expected_size=expected_size,
            expected_digest=expected_digest,
            checksums=checksums,
        )
        await _finish(session, image.id, operation, wait=wait)


async def download(
    session: Session,
    image: ImageArgument,
    file: Annotated[str, typer.Option(metavar="FILE", help="Where to write; - is standard output.")],
    offset: Annotated[int, typer.Option(min=0, max=MAX_INT64, help="Begin at this byte.")] = 0,
    length: Annotated[int | None, typer.Option(min=1, max=MAX_INT64, help="At most so many bytes.")] = None,
    verify: VerifyOption = None,
    trust_store: TrustStoreOption = None,
    trusted_certificate: TrustedCertificateOption = None,
    allow_unsigned: AllowUnsignedOption = False,
    fsync: Annotated[bool, typer.Option("--fsync", help="Return only when the disk has it.")] = False,
) -> None:
    """Download an image's bytes, verified; the file gets its name when it is whole.

    By default the digest that the catalog tells of is checked; with --verify the publisher's signature and the chain of
    custody; with --no-verify nothing.
    """
    from tintype.client import Verify

    wanted, trust = wanted_verification(verify, trust_store, trusted_certificate, allow_unsigned)
    if wanted is Verify.CUSTODY and (offset or length is not None):
        raise usage_error("a part of an image cannot be verified by what was signed: leave out --offset and --length")
    if wanted is Verify.CUSTODY:
        _require_revocable(file)
    if file == "-" and sys.stdout.isatty():
        raise usage_error("an image is not for a terminal: redirect the output, or name a --file")
    image_id = await session.image_id(image)
    destination: Path | BinaryIO = sys.stdout.buffer if file == "-" else Path(file)
    with byte_bar("download") as report:
        done = await session.client.images.download(
            image_id,
            destination,
            offset=offset,
            length=length,
            verify=wanted,
            trust=trust,
            allow_unsigned=allow_unsigned,
            fsync=fsync,
            on_progress=report,
        )
    if file != "-" and not session.printer.is_table:
        session.printer.one(done)
    elif done.custody is not None:
        print_custody(session.printer, done.custody)


def _require_revocable(file: str) -> None:
    """Refuse to write where bytes cannot be taken back: whoever reads there would use them before they are proven."""
    if file == "-":
        raise usage_error("--verify cannot take back what went to standard output: name a --file")
    path = Path(file)
    if (path.is_fifo() or path.is_socket() or path.is_char_device() or path.is_block_device()) and file != os.devnull:
        raise usage_error(f"--verify cannot take back what went to {file}: name a regular file")


def _method(chosen: ImportMethod | None, uri: str, file: str | None) -> ImportMethod:
    method = chosen or (ImportMethod.GLANCE_DIRECT if file is not None else ImportMethod.WEB_DOWNLOAD)
    if method is ImportMethod.WEB_DOWNLOAD and (not uri or file is not None):
        raise usage_error("web-download takes a --uri, and no --file")
    if method is ImportMethod.GLANCE_DIRECT and (file is None or uri):
        raise usage_error("glance-direct takes a --file, and no --uri")
    return method


def _require_file(file: str) -> None:
    """Find out that a file is not there before an image is made for it."""
    if file != "-":
        Path(file).open("rb").close()


def _standard_input() -> BinaryIO:
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except (OSError, ValueError):
        # What stands in for it has no descriptor.
        return sys.stdin.buffer


async def _send(
    session: Session,
    image_id: str,
    file: str,
    *,
    stage: bool = False,
    size: int | None = None,
    expected_digest: str,
    signer: ServiceSigner | LocalSigner | None,
) -> Upload:
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
        )


async def _finish(session: Session, image_id: str, started: Upload | Operation, *, wait: bool) -> None:
    if wait:
        with _named_on_interrupt(session, image_id):
            await follow_to_end(session, started)
    elif session.printer.is_table:
        session.printer.line(image_id)
        return
    session.printer.image(await session.client.images.get(image_id))


@asynccontextmanager
async def _named_on_failure(session: Session, image_id: str) -> AsyncIterator[None]:
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
def _named_on_interrupt(session: Session, image_id: str) -> Iterator[None]:
    """Tell whoever waits no longer that the work goes on, and how to look after it."""
    try:
        yield
    except asyncio.CancelledError:
        if session.printer.is_table:
            session.printer.note(f"the work on image {image_id} goes on: tintype image watch {image_id}")
        raise
