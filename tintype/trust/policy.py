"""What a project asks of the signatures of its images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from cryptography import x509

from tintype.domain.errors import InvalidArgumentError
from tintype.trust.chains import DEFAULT_CHAIN_LENGTH
from tintype.trust.signatures import fingerprint_of
from tintype.trust.strict_json import written
from tintype.trust.trust_store import TrustStore

_FINGERPRINT_VERSION = 1


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """The rules; the defaults ask for nothing but a sound signature where there is one.

    ``requires_chain``: a signer's certificate has to lead to a trusted root; otherwise it is trusted as it is, because
    an operator placed it. ``allowed_signers`` are SHA-256 fingerprints of certificates, as :func:`parse_fingerprint`
    gives them; empty is all.
    """

    require_signature: bool = False
    requires_chain: bool = False
    allowed_signers: frozenset[str] = frozenset()
    max_certificate_age_days: int | None = None
    clock_skew_s: float = 0.0
    max_chain_length: int = DEFAULT_CHAIN_LENGTH

    @property
    def clock_skew(self) -> timedelta:
        """By how much clocks may differ."""
        return timedelta(seconds=self.clock_skew_s)

    def fingerprint(self, store: TrustStore) -> str:
        """The SHA-256, in hex, of these rules and of whom they trust: the same rules have the same, for ever.

        Revocation lists do not count: they come and go, and are no rules.
        """
        rules = asdict(self) | {"allowed_signers": sorted(self.allowed_signers)}
        trusted = {
            "roots": _fingerprints(store.roots),
            "intermediates": _fingerprints(store.intermediates),
            "service_keys": _fingerprints(tuple(store.service_certificates.values())),
        }
        content = {"version": _FINGERPRINT_VERSION, "rules": rules, "trusted": trusted}
        return hashlib.sha256(written(content)).hexdigest()


def parse_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint in lower-case hex; colons, as `openssl x509 -fingerprint` writes them, are left out.

    Raises:
        InvalidArgumentError: it is none.
    """
    digits = text.replace(":", "").strip().lower()
    if len(digits) != 64 or not all(digit in "0123456789abcdef" for digit in digits):
        raise InvalidArgumentError(f"{text[:100]!r} is not the SHA-256 fingerprint of a certificate: 64 hex digits")
    return digits


def _fingerprints(certificates: Sequence[x509.Certificate]) -> list[str]:
    return sorted(fingerprint_of(each) for each in certificates)
