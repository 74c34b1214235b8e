"""``tintype image sign``: the signature of a local file, offline, without any service."""

from __future__ import annotations

import hashlib
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from tintype.cli.exit_codes import exit_code
from tintype.cli.printer import OutputFormat, Printer
from tintype.cli.session import GlobalOptions, ended, usage_error
from tintype.cli.signing_options import HashMethod, HashMethodOption, PassphraseFileOption, passphrase_prompt
from tintype.domain.values import CERTIFICATE_ID, Digest

_PIECE_BYTES = 1024 * 1024


def sign(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The image's bytes; - is standard input.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key (PEM, mode 0600).")],
    certificate_id: Annotated[
        str, typer.Option("--certificate-id", metavar="ID", help="By which id the service knows its certificate.")
    ],
    passphrase_file: PassphraseFileOption = None,
    hash_method: HashMethodOption = HashMethod.SHA256,
    words: Annotated[
        bool, typer.Option("--words", help="Print only the words --property KEY=VALUE, for another command.")
    ] = False,
    output: Annotated[OutputFormat | None, typer.Option("--output", "-o", help="How to print answers.")] = None,
) -> None:
    """Sign a file, and print the four properties to set on its image: offline, without any service."""
    from tintype.client import ClientError, LocalSigner

    first: GlobalOptions = ctx.find_root().obj or GlobalOptions()
    printer = Printer(output or first.output)
    if not CERTIFICATE_ID.fullmatch(certificate_id):
        raise usage_error(f"{certificate_id[:80]!r} is not a certificate id: use letters, digits, - _ and .")
    signer = LocalSigner(key, certificate_id, passphrase_file, hash_method.value, passphrase_prompt())

    def work() -> int:
        try:
            private_key = signer.load()  # before the file is read, which may take its time
            properties = signer.signed(private_key, _digest_of(file, hash_method))
        except ClientError as exc:
            printer.error(exc)
            return exit_code(exc)
        pairs = " ".join(f"--property {name}={value}" for name, value in properties.items())
        if words:
            printer.line(pairs)
        elif printer.is_table:
            printer.table(("Property", "Value"), list(properties.items()))
            printer.line(pairs)
        else:
            printer.one(dict(properties))
        return 0

    raise typer.Exit(ended(printer, work))


def _digest_of(file: str, hash_method: HashMethod) -> Digest:
    from tintype.client.signing import hash_algorithm_of

    algorithm = hash_algorithm_of(hash_method.value)
    hashed = hashlib.new(algorithm)
    with ExitStack() as stack:
        source: BinaryIO = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb", buffering=0))
        while piece := source.read(_PIECE_BYTES):
            hashed.update(piece)
    return Digest(algorithm, hashed.hexdigest())
