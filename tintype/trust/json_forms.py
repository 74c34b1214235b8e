"""How a verdict and an origin stand in JSON: alike in a statement, which is signed, and in a bundle."""

from __future__ import annotations

from tintype.domain.events import Origin, Verdict, Verification
from tintype.domain.values import Digest
from tintype.trust.strict_json import Fields

VERIFICATION_FIELDS = frozenset(
    {"verdict", "digest", "certificate_id", "certificate_fingerprint", "certificate_subject", "key_type"}
)


def verification_fields(verification: Verification) -> dict[str, object]:
    """What was verified; what is empty is left out."""
    found = {
        "verdict": str(verification.verdict),
        "digest": str(verification.digest or ""),
        "certificate_id": verification.certificate_id,
        "certificate_fingerprint": verification.certificate_fingerprint,
        "certificate_subject": verification.certificate_subject,
        "key_type": verification.key_type,
    }
    return {name: value for name, value in found.items() if value}


def read_verification(told: Fields) -> Verification:
    """What was verified.

    Raises:
        JsonRefusal, InvalidDigestError, ValueError: a field is missing, of another type, or of no known value.
    """
    digest = told.text("digest", default="")
    return Verification(
        Verdict(told.text("verdict")),
        Digest.parse(digest) if digest else None,
        told.text("certificate_id", default=""),
        told.text("certificate_fingerprint", default=""),
        told.text("certificate_subject", default=""),
        told.text("key_type", default=""),
    )


def origin_fields(origin: Origin) -> dict[str, object]:
    """Where the bytes come from, but for the URI, whose place differs."""
    return {
        "digest": str(origin.digest),
        "checksums_uri": origin.checksums_uri,
        "publisher_fingerprint": origin.publisher_fingerprint,
    }


def read_origin(uri: str, told: Fields) -> Origin:
    """Where the bytes come from.

    Raises:
        JsonRefusal, InvalidDigestError: a field is missing, of another type, or of no known value.
    """
    return Origin(
        uri,
        Digest.parse(told.text("digest")),
        told.text("checksums_uri", default=""),
        told.text("publisher_fingerprint", default=""),
    )
