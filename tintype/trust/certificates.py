"""Making the certificates of the service's own keys."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

SERVICE_CERTIFICATE_DAYS = 3650
_CLOCK_SKEW = timedelta(minutes=5)
_SECOND = timedelta(seconds=1)

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def service_certificate(key: SigningKey, key_id: str, now: datetime) -> bytes:
    """A self-signed certificate (PEM) for a key of the service: whoever trusts the service is given it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Tintype service key {key_id}"[:64])])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=SERVICE_CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA384())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def start_of_new(now: datetime, newest: datetime | None) -> datetime:
    """The ``now`` of a new key's certificate, so that it begins after the ``newest`` one did.

    The newest certificate's key signs, and certificates know no parts of seconds.
    """
    return now if newest is None else max(now, newest + _CLOCK_SKEW + _SECOND)
