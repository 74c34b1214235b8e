"""``tintype image``: the commands that import, into a new image or into one that is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.arguments import ExpectedDigestOption, ExpectedSizeOption, ImageArgument, WaitOption
from tintype.cli.new_image import NewImage
from tintype.cli.origin import ChecksumsSignatureUrlOption, ChecksumsUrlOption, PublisherKeyOption, read_checksums
from tintype.cli.placement_options import PlacementOptions, PlacementWords, require_stores
from tintype.cli.sending import finish, named_on_failure, require_file, send
from tintype.cli.session import Session, command, usage_error
from tintype.cli.signing_options import SigningOptions
from tintype.domain.events import ImportMethod

if TYPE_CHECKING:
    from tintype.client import LocalSigner, Operation, ServiceSigner, SignedChecksums

_CREATE_EXAMPLES = """\b
Examples:
  tintype image create-via-import web --disk-format qcow2 --container-format bare --uri https://example.org/web --wait
  tintype image create-via-import web --disk-format raw --container-format bare --file disk.raw --store ceph,s3
  tintype image create-via-import web --disk-format raw --container-format bare --file disk.raw --all-stores --wait
"""

_IMPORT_EXAMPLES = """\b
Examples:
  tintype image import web --uri https://example.org/web.qcow2 --wait
  tintype image import web --file disk.raw --store ceph,s3 --all-stores-must-succeed
  tintype image import web --all-stores        the bytes that were staged before
"""


def register(app: typer.Typer) -> None:
    """Add the commands to ``tintype image``."""
    command(app, "create-via-import", epilog=_CREATE_EXAMPLES)(create_via_import)
    command(app, "import", epilog=_IMPORT_EXAMPLES)(import_image)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Each field is an option, by :func:`tintype.cli.session.command`."""

    import_method: Annotated[
        ImportMethod | None,
        typer.Option("--import-method", help="Default: what goes with --uri or --file.", case_sensitive=False),
    ] = None
    uri: Annotated[str, typer.Option("--uri", help="Where the service shall fetch the bytes: http or https.")] = ""
    file: Annotated[str | None, typer.Option("--file", help="The bytes to stage and import; - is standard input.")] = (
        None
    )
    expected_size: ExpectedSizeOption = None
    expected_digest: ExpectedDigestOption = ""
    checksums_url: ChecksumsUrlOption = ""
    checksums_signature_url: ChecksumsSignatureUrlOption = ""
    publisher_key: PublisherKeyOption = None

    def method(self, *, may_be_staged: bool) -> ImportMethod:
        """The method that is meant; bytes that were staged before are imported where ``may_be_staged``.

        Raises:
            BadParameter: the options do not go together.
        """
        is_direct = self.file is not None or (may_be_staged and not self.uri)
        method = self.import_method or (ImportMethod.GLANCE_DIRECT if is_direct else ImportMethod.WEB_DOWNLOAD)
        if method is ImportMethod.WEB_DOWNLOAD and (not self.uri or self.file is not None):
            raise usage_error("web-download takes a --uri, and no --file")
        if method is ImportMethod.GLANCE_DIRECT and (self.uri or (self.file is None and not may_be_staged)):
            raise usage_error("glance-direct takes a --file, and no --uri")
        return method


async def create_via_import(
    session: Session,
    new: NewImage,
    signing: SigningOptions,
    source: ImportOptions,
    placement: PlacementOptions,
    positional_name: Annotated[str | None, typer.Argument(metavar="NAME", help="The image's name.")] = None,
    wait: WaitOption = False,
) -> None:
    """Make an image, and import its bytes: fetched from a URL, or staged from a file."""
    request = _Request.of(source, signing, placement, may_be_staged=False)
    new.require_formats()
    request = request.ready(signing)
    await require_stores(session, placement.words()["stores"])
    image = await new.create(session, positional_name)
    await request.carry_out(session, image.id, wait=wait)


async def import_image(
    session: Session,
    image: ImageArgument,
    signing: SigningOptions,
    source: ImportOptions,
    placement: PlacementOptions,
    wait: WaitOption = False,
) -> None:
    """Import an image's bytes: fetched from a URL, staged from a file, or else those that were staged before."""
    request = _Request.of(source, signing, placement, may_be_staged=True).ready(signing)
    await request.carry_out(session, await session.image_id(image), wait=wait)


@dataclass(frozen=True, slots=True)
class _Request:
    """An import that is known to be well-formed."""

    source: ImportOptions
    method: ImportMethod
    checksums: SignedChecksums | None
    placement: PlacementWords
    signer: ServiceSigner | LocalSigner | None = None

    @classmethod
    def of(
        cls, source: ImportOptions, signing: SigningOptions, placement: PlacementOptions, *, may_be_staged: bool
    ) -> _Request:
        """What the options ask for.

        Raises:
            BadParameter: they do not go together.
            OSError: the publisher's key cannot be read.
        """
        method = source.method(may_be_staged=may_be_staged)
        if signing.is_given and source.file is None:
            raise usage_error("what is signed is sent from here: give a --file")
        key: Path | None = source.publisher_key
        checksums = read_checksums(source.uri, source.checksums_url, source.checksums_signature_url, key)
        return cls(source, method, checksums, placement.words())

    def ready(self, signing: SigningOptions) -> _Request:
        """The same, with what is on this machine known to be there, before an image is made for it.

        Raises:
            ClientError: the private key cannot be used.
            OSError: the file cannot be read.
        """
        if self.source.file is not None:
            require_file(self.source.file)
        return replace(self, signer=signing.signer())

    async def carry_out(self, session: Session, image_id: str, *, wait: bool) -> None:
        """Stage the file if there is one, import, and print the image."""
        async with named_on_failure(session, image_id):
            if self.source.file is not None:
                await send(
                    session,
                    image_id,
                    self.source.file,
                    self.placement,
                    stage=True,
                    size=self.source.expected_size,
                    expected_digest=self.source.expected_digest,
                    signer=self.signer,
                )
            await finish(session, image_id, await self._begin(session, image_id), wait=wait)

    async def _begin(self, session: Session, image_id: str) -> Operation:
        return await session.client.images.import_(
            image_id,
            method=self.method,
            uri=self.source.uri,
            expected_size=self.source.expected_size,
            expected_digest=self.source.expected_digest,
            checksums=self.checksums,
            **self.placement,
        )
