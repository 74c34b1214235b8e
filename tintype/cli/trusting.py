"""Options about whom to trust, and how a proven chain of custody is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.plain import plain
from tintype.cli.session import usage_error

if TYPE_CHECKING:
    from tintype.cli.printer import Printer
    from tintype.client import Trust, Verify
    from tintype.trust.custody import Custody

VerifyOption = Annotated[
    bool | None,
    typer.Option(
        "--verify/--no-verify",
        help="Prove signature and chain of custody, or check nothing. Default: the digest of a whole image.",
    ),
]
TrustStoreOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Trust the certificates in this directory, and nobody else; implies --verify. "
        "Default: client.trust_store, or whom the signer names.",
    ),
]
TrustedCertificateOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID",
        help="Trust only this certificate of the signer's, or what it has issued; implies --verify; may be repeated.",
    ),
]
AllowUnsignedOption = Annotated[
    bool, typer.Option("--allow-unsigned", help="Take images without signature that the service attests to.")
]


def wanted_verification(
    verify: bool | None, trust_store: Path | None, trusted_certificates: Sequence[str] | None, allow_unsigned: bool
) -> tuple[Verify, Trust | None]:
    """What to verify, and whom to trust; ``None`` where custody is not verified, or the configuration shall say.

    Raises:
        BadParameter: the options contradict each other.
    """
    from tintype.client import Trust, Verify

    if trust_store is not None and trusted_certificates:
        raise usage_error("--trust-store and --trusted-certificate are two ways to say whom to trust: give one")
    is_named = trust_store is not None or bool(trusted_certificates)
    if verify is False and (is_named or allow_unsigned):
        raise usage_error("--no-verify trusts everybody: leave out the options that say whom to trust")
    if allow_unsigned and not (verify or is_named):
        raise usage_error("--allow-unsigned goes with --verify")
    if is_named:
        return Verify.CUSTODY, Trust(trust_store, tuple(trusted_certificates or ()))
    if verify is None:
        return Verify.DIGEST, None
    return (Verify.CUSTODY, None) if verify else (Verify.NOTHING, None)


def print_custody(printer: Printer, custody: Custody) -> None:
    """Print what was proven of which link, and by whom."""
    rows = [(str(link.name), link.detail, str(link.proof)) for link in custody.links]
    printer.table(("Link", "What", "Proven by"), rows)
    printer.line(f"image {custody.image_id} of project {custody.project}")
    if custody.is_signed:
        printer.line(f"signer: {custody.signer.certificate_subject} ({custody.signer.certificate_fingerprint})")
    printer.line(f"attested with key {custody.service_key_id}, verified at {plain(custody.verified_at)}")
