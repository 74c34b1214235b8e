"""Options that say where an import has to come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tintype.cli.session import usage_error
from tintype.domain.checksums import file_name_of
from tintype.domain.errors import InvalidUriError, PublisherKeyError
from tintype.domain.events import SignedChecksums
from tintype.domain.openpgp import MAX_KEY_BYTES, publisher_certificates

ChecksumsUrlOption = Annotated[
    str,
    typer.Option("--checksums-url", metavar="URL", help="The publisher's list, such as SHA256SUMS, must name them."),
]
ChecksumsSignatureUrlOption = Annotated[
    str,
    typer.Option(
        "--checksums-signature-url",
        metavar="URL",
        help="The list's detached OpenPGP signature. Without it, the list must hold its signature.",
    ),
]
PublisherKeyOption = Annotated[
    Path | None,
    typer.Option("--publisher-key", metavar="FILE", help="The publisher's OpenPGP certificate: it signs the list."),
]


def read_checksums(uri: str, list_url: str, signature_url: str, key_file: Path | None) -> SignedChecksums | None:
    """What the options ask for; ``None`` where they ask for nothing.

    Raises:
        BadParameter: one of them is missing, or the key is none.
        OSError: the key's file cannot be read.
    """
    if not list_url and not signature_url and key_file is None:
        return None
    if not list_url:
        raise usage_error("--publisher-key and --checksums-signature-url go with a --checksums-url")
    if key_file is None:
        raise usage_error("--checksums-url needs a --publisher-key: a list that nobody signed proves nothing")
    if not uri:
        raise usage_error("--checksums-url goes with a --uri: the list names what is fetched from there")
    with key_file.open("rb") as file:
        key = file.read(MAX_KEY_BYTES + 1)
    try:
        file_name_of(uri)
        publisher_certificates(key)
    except InvalidUriError as exc:
        raise usage_error(f"--uri: {exc.message}") from None
    except PublisherKeyError as exc:
        raise usage_error(f"--publisher-key {key_file}: {exc.message}") from None
    return SignedChecksums(list_url, signature_url, key)
