"""Whether an authority has taken a certificate back: its revocation lists (RFC 5280, sections 5 and 6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID

from tintype.domain.errors import CertificateRevokedError, RefusedContentError, RevocationUnknownError
from tintype.trust.public_keys import BROKEN_HASHES, MALFORMED, certified_key, name_of

_UNDERSTOOD = {ExtensionOID.CRL_NUMBER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER}
_UNDERSTOOD_OF_ENTRIES = {x509.CRLReason.oid, x509.InvalidityDate.oid}


def require_not_revoked(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    lists: Sequence[x509.CertificateRevocationList],
    at: datetime,
    skew: timedelta,
) -> None:
    """Hold a certificate against its issuer's lists. An issuer without a list is not asked: none is fetched.

    Raises:
        CertificateRevokedError: a list that its issuer signed names it, however old the list.
        RevocationUnknownError: lists bear the issuer's name, and none of them is the issuer's and in date.
    """
    named = [each for each in lists if _is_named(each, issuer)]
    if not named:
        return
    complaint = ""
    is_answered = False
    for each in named:
        found = _complaint(each, issuer)
        if not found:
            _require_not_in(certificate, each)
            found = _staleness(each, at, skew)
        is_answered |= not found
        complaint = found or complaint
    if not is_answered:
        raise RevocationUnknownError(f"whether {name_of(certificate)} was revoked is not known: {complaint}")


def require_not_taken_back(
    certificate: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    lists: Sequence[x509.CertificateRevocationList],
    at: datetime,
) -> None:
    """Hold a certificate that is trusted by itself against the lists of whichever of ``authorities`` has issued it.

    Raises:
        CertificateRevokedError, RevocationUnknownError: as :func:`require_not_revoked`.
    """
    for issuer in authorities:
        if issuer != certificate and _has_issued(issuer, certificate):
            require_not_revoked(certificate, issuer, lists, at, timedelta(0))


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certified_key(issuer)  # before it is used: a key of absurd size makes the verification itself costly
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, RefusedContentError, *MALFORMED):
        return False
    return True


def _is_named(revocation_list: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return revocation_list.issuer == issuer.subject
    except MALFORMED:
        return False


def _complaint(revocation_list: x509.CertificateRevocationList, issuer: x509.Certificate) -> str:
    """Why the list says nothing; empty if it is the issuer's, and understood."""
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return "its issuer may not sign revocation lists"
    except x509.ExtensionNotFound:
        pass
    except MALFORMED:
        return "its issuer's certificate is malformed"
    try:
        if isinstance(revocation_list.signature_hash_algorithm, BROKEN_HASHES):
            return "the revocation list is signed with a broken hash"
        # mypy: what may sign a list is what may sign a certificate.
        if not revocation_list.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
            return "the revocation list is not signed by the issuer"
        for extension in revocation_list.extensions:
            # A delta list, or one that covers only some certificates, says too little.
            if extension.critical and extension.oid not in _UNDERSTOOD:
                return f"the revocation list has a critical extension: {extension.oid.dotted_string[:80]}"
    except MALFORMED:
        return "the revocation list is malformed"
    return ""


def _require_not_in(certificate: x509.Certificate, revocation_list: x509.CertificateRevocationList) -> None:
    try:
        entry = revocation_list.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is None:
            return
        for extension in entry.extensions:
            if extension.critical and extension.oid not in _UNDERSTOOD_OF_ENTRIES:
                raise RevocationUnknownError(
                    f"whether {name_of(certificate)} was revoked is not known: its entry is not understood"
                )
    except MALFORMED as exc:
        raise RevocationUnknownError("a revocation list has a malformed entry") from exc
    raise CertificateRevokedError(f"{name_of(certificate)} was revoked at {entry.revocation_date_utc.isoformat()}")


def _staleness(revocation_list: x509.CertificateRevocationList, at: datetime, skew: timedelta) -> str:
    try:
        begins, ends = revocation_list.last_update_utc, revocation_list.next_update_utc
    except ValueError:
        return "the revocation list has malformed dates"
    if at < begins - skew:
        return f"the revocation list is not valid before {begins.isoformat()}"
    if ends is None:
        return "the revocation list does not say how long it holds"
    if at > ends + skew:
        return f"the revocation list was to be renewed until {ends.isoformat()}"
    return ""
