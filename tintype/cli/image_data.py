"""``tintype image``: the commands that move bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from tintype.cli.arguments import MAX_INT64, ExpectedDigestOption, ImageArgument
from tintype.cli.bars import byte_bar
from tintype.cli.new_image import NewImage
from tintype.cli.placement_options import PlacementOptions, require_stores
from tintype.cli.sending import finish, named_on_failure, require_file, send
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

_UPLOAD_EXAMPLES = """\b
Examples:
  tintype image upload disk.qcow2 --name web --disk-format qcow2 --container-format bare
  tintype image upload disk.qcow2 --name web --disk-format qcow2 --container-format bare --store ceph,s3
  tintype image upload disk.raw --image web --all-stores --all-stores-must-succeed
"""


def register(app: typer.Typer) -> None:
    """Add the commands to ``tintype image``."""
    command(app, "upload", epilog=_UPLOAD_EXAMPLES)(upload)
    command(app, "download")(download)


async def upload(
    session: Session,
    new: NewImage,
    signing: SigningOptions,
    placement: PlacementOptions,
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
    wanted = placement.words()
    require_file(file)
    if image is None:
        new.require_formats()
    signer = signing.signer()
    await require_stores(session, wanted["stores"])
    target = await session.image_id(image) if image is not None else (await new.create(session)).id
    async with named_on_failure(session, target):
        sent = await send(session, target, file, wanted, expected_digest=expected_digest, signer=signer)
        await finish(session, target, sent, wait=wait)


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
