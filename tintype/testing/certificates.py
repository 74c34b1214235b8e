"""Authorities, certificates and revocation lists, as good or as bad as a test wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from tintype.testing.clock import START

PrivateKey = rsa.RSAPrivateKey | dsa.DSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | dsa.DSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key; making one is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def dsa_key(bits: int = 2048) -> dsa.DSAPrivateKey:
    """A DSA key; making one is slower still."""
    return dsa.generate_private_key(bits)


@cache
def ec_key(name: str = "") -> ec.EllipticCurvePrivateKey:
    """A key on P-256 that stands for ``name``."""
    return ec.generate_private_key(ec.SECP256R1())


def usage(*uses: str) -> x509.KeyUsage:
    """A key usage with these uses, in the names that `cryptography` has for them."""
    return x509.KeyUsage(**{use: use in uses for use in _USES})


def name(common_name: str) -> x509.Name:
    """A distinguished name of one part."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def pem(*items: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """They in PEM, one behind the other."""
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in items)


def private_pem(key: PrivateKey) -> bytes:
    """A private key as PKCS #8 in PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate(
    subject: str,
    key: PublicKey,
    issuer: str,
    issuer_key: PrivateKey,
    *,
    begins: datetime = START - timedelta(days=1),
    ends: datetime = START + timedelta(days=1),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> x509.Certificate:
    """A certificate; ``extensions`` are with whether each is critical."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


@dataclass(frozen=True)
class Authority:
    """A certificate, its key, and what it may issue."""

    certificate: x509.Certificate
    key: PrivateKey
    common_name: str

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return pem(self.certificate)

    def authority(
        self,
        common_name: str,
        *,
        key: PrivateKey | None = None,
        path_length: int | None = None,
        uses: x509.KeyUsage | None = None,
        begins: datetime = START - timedelta(days=1),
        ends: datetime = START + timedelta(days=1),
        more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> Authority:
        """An authority under this one."""
        own = key or ec_key(common_name)
        extensions = [*_of_authority(path_length, uses), *more]
        issued = certificate(
            common_name, own.public_key(), self.common_name, self.key, begins=begins, ends=ends, extensions=extensions
        )
        return Authority(issued, own, common_name)

    def issue(
        self,
        subject: str,
        key: PublicKey,
        *,
        uses: x509.KeyUsage | None = None,
        begins: datetime = START - timedelta(days=1),
        ends: datetime = START + timedelta(days=1),
        more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> x509.Certificate:
        """A signer's certificate."""
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (uses or usage("digital_signature"), True),
            *more,
        ]
        return certificate(
            subject,
            key,
            self.common_name,
            self.key,
            begins=begins,
            ends=ends,
            extensions=extensions,
        )

    def revocation_list(
        self,
        *revoked: x509.Certificate,
        begins: datetime = START - timedelta(hours=1),
        ends: datetime = START + timedelta(hours=1),
        more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> x509.CertificateRevocationList:
        """Its list of certificates that it has taken back."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(name(self.common_name))
        builder = builder.last_update(begins).next_update(ends)
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(begins)
            builder = builder.add_revoked_certificate(entry.build())
        for extension, is_critical in more:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self.key, hashes.SHA256())


def root_authority(
    common_name: str = "Root",
    *,
    key: PrivateKey | None = None,
    path_length: int | None = None,
    uses: x509.KeyUsage | None = None,
    begins: datetime = START - timedelta(days=365),
    ends: datetime = START + timedelta(days=365),
) -> Authority:
    """An authority that is nobody's but its own."""
    own = key or ec_key(common_name)
    signed = certificate(
        common_name,
        own.public_key(),
        common_name,
        own,
        begins=begins,
        ends=ends,
        extensions=_of_authority(path_length, uses),
    )
    return Authority(signed, own, common_name)


def _of_authority(path_length: int | None, uses: x509.KeyUsage | None) -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (uses or usage("key_cert_sign", "crl_sign", "digital_signature"), True),
    ]
