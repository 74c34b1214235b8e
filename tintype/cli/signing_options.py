"""Who signs what is uploaded: the options of all commands that send bytes, and how a passphrase is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.session import usage_error

if TYPE_CHECKING:
    from tintype.client import LocalSigner, ServiceSigner


class HashMethod(StrEnum):
    """What a signature is made over, as ``img_signature_hash_method`` names it."""

    SHA224 = "SHA-224"
    SHA256 = "SHA-256"
    SHA384 = "SHA-384"
    SHA512 = "SHA-512"


PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="The private key's passphrase, in a file that nobody else may read. Default: it is asked for.",
    ),
]
HashMethodOption = Annotated[
    HashMethod, typer.Option("--hash-method", help="The hash that is signed.", case_sensitive=False)
]


@dataclass(frozen=True, slots=True)
class SigningOptions:
    """Each field is an option, by :func:`tintype.cli.session.command`."""

    sign: Annotated[
        bool, typer.Option("--sign", help="Have the service sign the bytes with its own key, while they are sent.")
    ] = False
    sign_key: Annotated[
        Path | None,
        typer.Option("--sign-key", metavar="FILE", help="Sign with this private key (PEM, mode 0600) instead."),
    ] = None
    sign_certificate: Annotated[
        str, typer.Option("--sign-certificate", metavar="ID", help="By which id the service knows its certificate.")
    ] = ""
    passphrase_file: PassphraseFileOption = None
    hash_method: HashMethodOption = HashMethod.SHA256

    @property
    def is_given(self) -> bool:
        """Whether anything is to be signed."""
        return self.sign or self.sign_key is not None

    def signer(self) -> ServiceSigner | LocalSigner | None:
        """Who signs, if anybody does; a private key is read at once, before an image is made for it.

        Raises:
            BadParameter: both, or half of what a private key needs.
            ClientError: the private key cannot be used.
            OSError: it cannot be opened.
        """
        from tintype.client import LocalSigner, ServiceSigner
        from tintype.client.signing import SERVICE_HASH_METHODS

        if self.sign and self.sign_key is not None:
            raise usage_error("--sign is by the service and --sign-key by a private key: give one of them")
        if (self.sign_key is None) != (not self.sign_certificate):
            raise usage_error("--sign-key and --sign-certificate belong together")
        if self.passphrase_file is not None and self.sign_key is None:
            raise usage_error("--passphrase-file is for --sign-key")
        if self.sign_key is not None:
            signer = LocalSigner(
                self.sign_key, self.sign_certificate, self.passphrase_file, self.hash_method.value, passphrase_prompt()
            )
            return signer.unlocked()
        if self.sign and self.hash_method.value not in SERVICE_HASH_METHODS:
            raise usage_error(f"--sign is over {' or '.join(SERVICE_HASH_METHODS)}: sign with a --sign-key otherwise")
        return ServiceSigner(self.hash_method.value) if self.sign else None


def passphrase_prompt() -> Callable[[str], str] | None:
    """Asks at the terminal, whatever standard input is; ``None`` where there is none, and nobody could answer."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return None
    return lambda what: getpass(f"Passphrase of {what}: ")
