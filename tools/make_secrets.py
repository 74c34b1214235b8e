"""Makes what a composed deployment keeps secret, once: deploy/secrets/ (docs/operations.md).

An authority and a certificate for each container, the database's and Grafana's passwords, the operator's token, and
`client.toml`, with which the operator's `tintype` is ready. What is there already is kept, save for certificates that
end within a month or lack a name: those are made anew. Whoever has an authority, a database and tokens of his own puts
them there instead.
"""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tintype.runtime.tokens import digest_of, new_token

SERVICES = ("catalog", "importer", "converter", "signer")
LOCAL = ("localhost", "127.0.0.1")
NAMES = {
    **{service: (service,) for service in SERVICES},
    "router": ("router", *LOCAL),
    "nats": ("nats", "nats-2", "nats-3", *LOCAL),
    "postgresql": ("postgresql",),
    "operator": ("operator",),
}
AUTHORITY_LIFE = timedelta(days=5 * 365)
LIFE = timedelta(days=397)
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(minutes=5)


class Authority:
    """The deployment's own certificate authority, whose key is in the directory."""

    def __init__(self, directory: Path) -> None:
        """Read it; make it first where there is none."""
        self.path = directory / "ca.crt"
        key_path = directory / "ca.key"
        if not key_path.exists():
            self._make(key_path)
        key = load_pem_private_key(key_path.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(self.path.read_bytes())

    def _make(self, key_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Tintype deployment")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = (
            _builder(name, name, key, AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_secret(key_path, _private_pem(key))
        write_secret(self.path, made.public_bytes(Encoding.PEM))

    def issue(self, directory: Path, names: Sequence[str]) -> None:
        """Write ``tls.crt``, ``tls.key`` and ``ca.crt``, unless there are good ones; the first name is the subject."""
        path = directory / "tls.crt"
        write_secret(directory / "ca.crt", self.path.read_bytes())
        if path.exists() and self._is_good(x509.load_pem_x509_certificate(path.read_bytes()), names):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = (
            _builder(_name(names[0]), self._certificate.subject, key, LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(both, critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_secret(directory / "tls.key", _private_pem(key))
        write_secret(path, made.public_bytes(Encoding.PEM))

    def _is_good(self, certificate: x509.Certificate, names: Sequence[str]) -> bool:
        known = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_ours = certificate.issuer == self._certificate.subject
        is_fresh = certificate.not_valid_after_utc - datetime.now(UTC) > RENEW_BEFORE
        return is_ours and is_fresh and {_general_name(name) for name in names} <= set(known)


def make_secrets(directory: Path, endpoint: str, nats: str, names: Sequence[str] = ()) -> None:
    """Write all that is missing; ``names`` are what clients call this machine, besides localhost."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority(directory)
    for container, own in NAMES.items():
        place = directory / container
        tls = place if container == "operator" else place / "tls"
        authority.issue(tls, (*own, *names) if container in ("router", "nats") else own)
    _make_passwords(directory)
    _make_token(directory)
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
    write_secret(directory / "client.toml", ("\n".join(lines) + "\n").encode())


def _make_passwords(directory: Path) -> None:
    for path in (directory / "postgresql/password", directory / "grafana/password"):
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32).encode())
    password = (directory / "postgresql/password").read_text().strip()
    url = f"postgresql://tintype:{password}@postgresql/tintype?sslmode=verify-full"
    for service in SERVICES:
        (directory / service / "secrets").mkdir(mode=0o700, exist_ok=True)
    write_secret(directory / "catalog/secrets/TINTYPE_CATALOG__DATABASE_URL", url.encode())


def _make_token(directory: Path) -> None:
    """The operator's token; each service gets the digest."""
    path = directory / "operator/token"
    if not path.exists():
        write_secret(path, new_token().encode())
    grants = directory / "tokens.toml"
    if not grants.exists():
        digest = digest_of(path.read_text().strip())
        entry = f'[[tokens]]\nactor = "operator"\nsha256 = "{digest}"\nprojects = ["*"]\nadmin = true\n'
        write_secret(grants, entry.encode())
    for service in SERVICES:
        write_secret(directory / service / "auth/tokens.toml", grants.read_bytes())


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read, at once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    partial.replace(path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--endpoint", default="127.0.0.1:9292", help="where clients find the router")
    parser.add_argument("--nats", default="127.0.0.1:4222", help="where clients find NATS")
    parser.add_argument("--name", action="append", default=[], help="a name or address that clients call this machine")
    arguments = parser.parse_args()
    make_secrets(arguments.directory, arguments.endpoint, arguments.nats, arguments.name)


if __name__ == "__main__":
    main()
