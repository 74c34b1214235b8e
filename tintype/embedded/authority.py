"""A certificate authority to throw away: for a stack on one machine, for trying a deployment out, and for tests.

Its key lies beside its certificate, readable by its owner alone. A deployment that matters has its certificates from an
authority of its own, such as cert-manager or a company's.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tintype.embedded.directory import write_atomically

CA_CERTIFICATE = "ca.crt"
CA_KEY = "ca.key"
CERTIFICATE = "tls.crt"
KEY = "tls.key"
CA_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=365)
RENEWAL = timedelta(days=30)
"""A certificate that would expire sooner is made anew."""

_SKEW = timedelta(minutes=5)
PUBLIC = 0o644
"""The mode of what everybody may read: certificates."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA in ``directory``; made by :func:`open_authority`."""

    directory: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_file(self) -> Path:
        """What others have to trust."""
        return self.directory / CA_CERTIFICATE

    def issue(self, target: Path, names: Sequence[str], *, lifetime: timedelta = LIFETIME) -> None:
        """Write ``tls.crt``, ``tls.key`` and ``ca.crt`` into ``target``: a certificate for a server and a client.

        ``names`` are DNS names and addresses; the first is what it is called. One that is there for the same names, by
        this authority and not about to expire, stays.
        """
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_whole = all((target / name).is_file() for name in (KEY, CA_CERTIFICATE))
        if is_whole and self._is_current(target / CERTIFICATE, names):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + lifetime) - _SKEW)
            .not_valid_after(now + lifetime)
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        _write_key(target / KEY, key)
        write_atomically(target / CERTIFICATE, certificate.public_bytes(Encoding.PEM), PUBLIC)
        write_atomically(target / CA_CERTIFICATE, self.certificate.public_bytes(Encoding.PEM), PUBLIC)

    def _is_current(self, path: Path, names: Sequence[str]) -> bool:
        try:
            found = x509.load_pem_x509_certificate(path.read_bytes())
            alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            found.verify_directly_issued_by(self.certificate)
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        is_fresh = found.not_valid_after_utc - datetime.now(UTC) > RENEWAL
        return is_fresh and set(alternatives) == {_alternative(name) for name in names}


def open_authority(directory: Path) -> Authority:
    """The authority in ``directory``, made where there is none.

    Raises:
        OSError: the directory cannot be written or read.
        ValueError: what lies there is no authority.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate_path, key_path = directory / CA_CERTIFICATE, directory / CA_KEY
    if not key_path.is_file():
        _make(certificate_path, key_path)
    key = load_pem_private_key(key_path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{key_path} is no key of an authority")
    return Authority(directory, x509.load_pem_x509_certificate(certificate_path.read_bytes()), key)


def main() -> int:
    """``python -m tintype.embedded.authority DIR NAME=HOST,HOST …``: a CA in DIR, a certificate in each DIR/NAME."""
    parser = argparse.ArgumentParser(
        prog="python -m tintype.embedded.authority", description="Make a throw-away CA and certificates of it."
    )
    parser.add_argument("directory", type=Path, help="where the CA is, or is made")
    parser.add_argument("certificates", nargs="+", metavar="NAME=HOST,HOST", help="written to DIRECTORY/NAME")
    arguments = parser.parse_args()
    os.umask(0o077)
    try:
        authority = open_authority(arguments.directory)
        for wanted in arguments.certificates:
            name, _, hosts = wanted.partition("=")
            authority.issue(arguments.directory / name, [host for host in hosts.split(",") if host] or [name])
    except (OSError, ValueError) as exc:
        print(f"authority: {exc}", file=sys.stderr)
        return 1
    return 0


def _make(certificate_path: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = _name("Tintype throw-away CA")
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_atomically(certificate_path, certificate.public_bytes(Encoding.PEM), PUBLIC)
    _write_key(key_path, key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_atomically(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


if __name__ == "__main__":
    sys.exit(main())
