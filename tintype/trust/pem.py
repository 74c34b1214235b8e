"""Certificates and revocation lists out of PEM and DER: bounded in size and number, and every refusal one of ours."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from tintype.domain.errors import CertificateInvalidError

MAX_PEM_BYTES = 2 * 1024 * 1024
MAX_BLOCKS = 256

MAX_BLOCK_BYTES = 48 * 1024
"""Of one certificate: chains of them travel in events."""

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_MAX_LABEL_BYTES = 64
_CERTIFICATE_LABELS = (b"CERTIFICATE", b"X509 CERTIFICATE")


def certificates_of(pem: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM text, in their order; at least one. ``what`` names it in messages.

    Raises:
        CertificateInvalidError: there is none, or something that cannot be read.
    """
    found = tuple(_certificate(block, what) for label, block in _blocks(pem, what) if label in _CERTIFICATE_LABELS)
    if not found:
        raise CertificateInvalidError(f"{what} is not an X.509 certificate in PEM")
    return found


def certificate_of_der(der: bytes, what: str) -> x509.Certificate:
    """A certificate in DER.

    Raises:
        CertificateInvalidError: it is none.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, TypeError, x509.InvalidVersion) as exc:
        raise CertificateInvalidError(f"{what} is not an X.509 certificate in DER") from exc


def certificates_and_lists(
    pem: bytes, what: str
) -> tuple[tuple[x509.Certificate, ...], tuple[x509.CertificateRevocationList, ...]]:
    """All certificates and revocation lists of a PEM text; at least one of either.

    Raises:
        CertificateInvalidError: there is neither, or something else, or something that cannot be read.
    """
    certificates: list[x509.Certificate] = []
    lists: list[x509.CertificateRevocationList] = []
    for label, block in _blocks(pem, what):
        if label in _CERTIFICATE_LABELS:
            certificates.append(_certificate(block, what))
        elif label == b"X509 CRL":
            lists.append(_revocation_list(block, what))
        else:
            raise CertificateInvalidError(
                f"{what} holds {label.decode(errors='replace')!r}, and not certificates alone"
            )
    if not certificates and not lists:
        raise CertificateInvalidError(f"{what} holds neither a certificate nor a revocation list in PEM")
    return tuple(certificates), tuple(lists)


def _blocks(pem: bytes, what: str) -> Iterator[tuple[bytes, bytes]]:
    """The label and the text of each block, in one pass over the text."""
    if len(pem) > MAX_PEM_BYTES:
        raise CertificateInvalidError(f"{what} is larger than {MAX_PEM_BYTES} bytes")
    count = position = 0
    while (begins := pem.find(_BEGIN, position)) >= 0:
        count += 1
        if count > MAX_BLOCKS:
            raise CertificateInvalidError(f"{what} holds more than {MAX_BLOCKS} certificates")
        label = pem[begins + len(_BEGIN) : begins + len(_BEGIN) + _MAX_LABEL_BYTES].partition(_DASHES)[0]
        ending = b"".join((_END, label, _DASHES))
        ends = pem.find(ending, begins)
        if ends < 0:
            raise CertificateInvalidError(f"{what} is cut short")
        position = ends + len(ending)
        if position - begins > MAX_BLOCK_BYTES and label in _CERTIFICATE_LABELS:
            raise CertificateInvalidError(f"{what} holds a certificate of more than {MAX_BLOCK_BYTES} bytes")
        yield label, pem[begins:position]


def _certificate(block: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block)
    except (ValueError, TypeError, x509.InvalidVersion) as exc:
        raise CertificateInvalidError(f"{what} is not an X.509 certificate in PEM") from exc


def _revocation_list(block: bytes, what: str) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(block)
    except (ValueError, TypeError, x509.InvalidVersion) as exc:
        raise CertificateInvalidError(f"{what} is not a revocation list in PEM") from exc
