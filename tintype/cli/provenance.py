"""``tintype image provenance``: where an image's bytes come from, and the proof of it, with or without a service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.plain import plain, size_text
from tintype.cli.session import Session, command, usage_error
from tintype.cli.trusting import (
    AllowUnsignedOption,
    TrustedCertificateOption,
    TrustStoreOption,
    print_custody,
    wanted_verification,
)

if TYPE_CHECKING:
    from tintype.client import Artifact, Provenance, Trust
    from tintype.trust.custody import Custody

_MAX_BUNDLE_BYTES = 2 * 1024 * 1024


def register(app: typer.Typer) -> None:
    """Add the command to ``tintype image``."""
    command(app, "provenance", offline_with="bundle")(provenance)


async def provenance(
    session: Session,
    image: Annotated[
        str | None,
        typer.Argument(metavar="IMAGE", help="The image's id, or its name. With --bundle: the id it must be about."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Prove every link of the chain.")] = False,
    trust_store: TrustStoreOption = None,
    trusted_certificate: TrustedCertificateOption = None,
    allow_unsigned: AllowUnsignedOption = False,
    bundle: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read the provenance from this bundle, and ask no service.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE-FILE", help="Prove that this file is the image, too; implies --verify."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the provenance to a bundle, to be verified elsewhere.")
    ] = None,
) -> None:
    """Show where an image's bytes come from, from the publisher's signature to the bytes that are served.

    What is shown without --verify is what the catalog tells, and proves nothing.
    """
    verify = verify or file is not None
    _, trust = wanted_verification(verify or None, trust_store, trusted_certificate, allow_unsigned)
    if image == "":  # as of a variable that is not set: not a word for any image
        raise usage_error("IMAGE is empty: give an id, or leave it out")
    if bundle is not None and save is not None:
        raise usage_error("--save writes what a service tells, and --bundle asks none")
    is_wanted = verify or trust is not None
    if bundle is not None:
        told, custody = await asyncio.to_thread(_offline, image, bundle, is_wanted, trust, allow_unsigned)
    else:
        told, custody = await _asked(session, image, is_wanted, trust, allow_unsigned)
    if custody is not None and file is not None:
        from tintype.client import verify_file

        await asyncio.to_thread(verify_file, custody, file)
    if save is not None:
        from tintype.client import write_bundle

        await asyncio.to_thread(_write, save, write_bundle(told))
    _show(session, told, custody, file)


async def _asked(
    session: Session, image: str | None, is_wanted: bool, trust: Trust | None, allow_unsigned: bool
) -> tuple[Provenance, Custody | None]:
    if image is None:
        raise usage_error("name an IMAGE, or a --bundle")
    image_id = await session.image_id(image)
    told = await session.client.images.provenance(image_id)
    if not is_wanted:
        return told, None
    custody = await session.client.images.verify(image_id, trust=trust, allow_unsigned=allow_unsigned, provenance=told)
    return told, custody


def _offline(
    image: str | None, bundle: Path, is_wanted: bool, trust: Trust | None, allow_unsigned: bool
) -> tuple[Provenance, Custody | None]:
    from tintype.client import read_bundle, verify_bundle

    if trust is not None and trust.certificate_ids:
        raise usage_error("--trusted-certificate asks the signer for it: with a --bundle, give a --trust-store")
    if is_wanted and (trust is None or trust.directory is None):
        raise usage_error("a --bundle says nothing about whom to trust: give a --trust-store")
    with bundle.open("rb") as opened:
        told = read_bundle(opened.read(_MAX_BUNDLE_BYTES + 1))
    if not is_wanted or trust is None or trust.directory is None:
        return told, None
    return told, verify_bundle(told, trust.directory, image=image or "", allow_unsigned=allow_unsigned)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _show(session: Session, told: Provenance, custody: Custody | None, file: Path | None) -> None:
    printer = session.printer
    if not printer.is_table:
        printer.one({"provenance": plain(told), "custody": plain(custody), "file": str(file) if file else None})
        return
    if custody is None:
        printer.table(("Link", "What is told"), _told_rows(told))
        printer.line("nothing of this is proven: see --verify")
        return
    print_custody(printer, custody)
    if file is not None:
        printer.line(f"{file} is this image: {custody.digest}")


def _told_rows(told: Provenance) -> Sequence[tuple[str, str]]:
    found = told.verification
    signer = ", ".join(each for each in (found.key_type, found.certificate_subject, found.certificate_id) if each)
    rows = [
        ("image", f"{told.image_id} of project {told.project}"),
        ("publisher's signature", signer or "none"),
        ("bytes as sent", _artifact(told.sent)),
        ("guest's disk", told.published.guest_digest or told.sent.guest_digest or "not known"),
        ("published bytes", _artifact(told.published)),
        ("attestation", f"with key {told.attestation_key_id}" if told.attestation else "none"),
    ]
    if told.origin is not None:
        rows.insert(1, ("origin", told.origin.summary))
    return rows


def _artifact(artifact: Artifact) -> str:
    form = artifact.compression or artifact.disk_format or ""
    digests = " ".join(f"{name}:{value}" for name, value in sorted(artifact.digests.items()))
    return f"{form}, {size_text(artifact.size)}, {digests}"
