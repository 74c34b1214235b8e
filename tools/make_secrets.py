"""Makes what a composed deployment keeps secret, once: deploy/secrets/ (docs/operations.md).

An authority and a certificate for each container, the database's and Grafana's passwords, the operator's token, and
`client.toml`, with which the operator's `tintype` is ready. What is there already is kept, save for certificates that
end within a month or lack a name: those are made anew. Whoever has an authority, a database and tokens of his own puts
them there instead: without `ca.key` beside `ca.crt`, no certificate is made here.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tintype.codec.tokens import ANY_PROJECT, entry_of, new_token
from tintype.embedded.authority import CA_CERTIFICATE, CA_KEY, CERTIFICATE, KEY, open_authority
from tintype.embedded.directory import write_atomically
from tintype.embedded.stack_settings import SERVICES

LOCAL = ("localhost", "127.0.0.1")
NAMES = {
    **{service: (service,) for service in SERVICES},
    "router": ("router", *LOCAL),
    "nats": ("nats", "nats-2", "nats-3", *LOCAL),
    "postgresql": ("postgresql",),
    "operator": ("operator",),
}


def make_secrets(directory: Path, endpoint: str, nats: str, names: Sequence[str] = ()) -> None:
    """Write all that is missing; ``names`` are what clients call this machine, besides localhost.

    Raises:
        FileNotFoundError: the authority is not ours to issue certificates with, and one is missing.
        OSError, ValueError: the directory cannot be written, or what is in it is not as it should be.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificates = {
        directory / container / ("" if container == "operator" else "tls"): (
            (*own, *names) if container in ("router", "nats") else own
        )
        for container, own in NAMES.items()
    }
    if (directory / CA_CERTIFICATE).exists() and not (directory / CA_KEY).exists():
        _require(certificates)
    else:
        authority = open_authority(directory)
        for place, wanted in certificates.items():
            authority.issue(place, wanted)
    _make_passwords(directory)
    _make_token(directory)
    _write_client_file(directory, endpoint, nats)


def _require(places: Iterable[Path]) -> None:
    """An authority without its key is the operator's own, who brings the certificates along."""
    for place in places:
        for name in (CERTIFICATE, KEY, CA_CERTIFICATE):
            if not (place / name).is_file():
                raise FileNotFoundError(f"{place / name} is missing, and there is no {CA_KEY} to make it with")


def _write_client_file(directory: Path, endpoint: str, nats: str) -> None:
    lines = [
        "[client]",
        f'endpoint = "{endpoint}"',
        "tls = true",
        'ca = "ca.crt"',
        'token_file = "operator/token"',
        f'nats = "tls://{nats}"',
        'certificate = "operator/tls.crt"  # for NATS: services know the operator by the token',
        'key = "operator/tls.key"',
    ]
    write_secret(directory / "client.toml", "\n".join(lines) + "\n")


def _make_passwords(directory: Path) -> None:
    for path in (directory / "postgresql/password", directory / "grafana/password"):
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32))
    password = (directory / "postgresql/password").read_text().strip()
    url = f"postgresql://tintype:{password}@postgresql/tintype?sslmode=verify-full"
    for service in SERVICES:
        (directory / service / "secrets").mkdir(mode=0o700, exist_ok=True)
    write_secret(directory / "catalog/secrets/TINTYPE_CATALOG__DATABASE_URL", url)


def _make_token(directory: Path) -> None:
    """The operator's token; each service gets the digest."""
    path = directory / "operator/token"
    if not path.exists():
        write_secret(path, new_token())
    grants = directory / "tokens.toml"
    if not grants.exists():
        entry = entry_of(path.read_text().strip(), "operator", [ANY_PROJECT], is_admin=True)
        write_secret(grants, entry)
    for service in SERVICES:
        write_secret(directory / service / "auth/tokens.toml", grants.read_bytes())


def write_secret(path: Path, content: str | bytes) -> None:
    """Write a file that nobody else may read, in a directory that nobody else may look into."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, content)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--endpoint", default="127.0.0.1:9292", help="where clients find the router")
    parser.add_argument("--nats", default="127.0.0.1:4222", help="where clients find NATS")
    parser.add_argument("--name", action="append", default=[], help="a name or address that clients call this machine")
    arguments = parser.parse_args()
    try:
        make_secrets(arguments.directory, arguments.endpoint, arguments.nats, arguments.name)
    except (OSError, ValueError) as exc:
        sys.exit(f"make_secrets: {exc}")


if __name__ == "__main__":
    main()
