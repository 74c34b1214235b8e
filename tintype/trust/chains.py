"""From a signer's certificate to a root that is trusted: RFC 5280, section 6.1.

Finding a way is one thing, judging it another (RFC 4158). The search follows names and signatures, in bounds, so that
cross-signed authorities and several ways are no matter; each way that it finds is judged, from the root to the signer,
by the steps of section 6.1.3 (basic processing), 6.1.4 (preparation for the next certificate) and 6.1.5 (wrap-up).

More than the RFC asks for: the root is held to the same rules, broken hashes and weak keys are refused, and an
authority that is limited to other purposes than signing does not vouch for signers. Less: certificate policies are not
processed (their inputs have their default values), and name constraints are refused, whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from tintype.domain.errors import (
    CertificateChainError,
    CertificateExpiredError,
    CertificateInvalidError,
    CertificateNotYetValidError,
    CertificateUntrustedError,
    CertificateUsageError,
    RefusedContentError,
    WeakKeyError,
)
from tintype.trust.public_keys import BROKEN_HASHES, MALFORMED, certified_key, name_of, require_one_holder
from tintype.trust.revocation import require_not_revoked
from tintype.trust.trust_store import TrustStore

MAX_CHAIN_LENGTH = 10
DEFAULT_CHAIN_LENGTH = 6
MAX_CANDIDATES = 100
"""How many signatures of certificates are verified for one chain: a maze of cross-signed ones must not hold us up."""

Chain = tuple[x509.Certificate, ...]
"""The signer's certificate first, the trusted root last; a certificate that is itself trusted is a chain of one."""

_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    # They name things that are of no matter here, or policies, of which none is asked for.
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.INHIBIT_ANY_POLICY,
}
_SIGNING_PURPOSES = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


def verify_chain(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    store: TrustStore,
    at: datetime,
    *,
    max_length: int = DEFAULT_CHAIN_LENGTH,
    clock_skew: timedelta = timedelta(0),
) -> Chain:
    """The chain from ``leaf`` to a root of ``store`` that is good at that time.

    ``intermediates`` are what came with the signature: they are not trusted, and need not be in order. ``max_length``
    counts all certificates, leaf and root included. Certificates and lists count as in date for ``clock_skew`` before
    and after.

    Raises:
        CertificateUntrustedError: no way leads to a root.
        CertificateChainError: ways are longer than allowed, or lead through what is no authority.
        CertificateExpiredError, CertificateNotYetValidError: a certificate on the way is not valid at that time.
        CertificateUsageError: the leaf is not for signatures, or an authority not for certificates.
        CertificateRevokedError: one was revoked.
        RevocationUnknownError: there is a revocation list for one, and none that holds at that time.
        WeakKeyError: a key is too small, or a certificate signed with a broken hash.
        CertificateInvalidError: one is malformed, or has a critical extension that is not understood.
    """
    search = _Search(leaf, (*intermediates, *store.intermediates), store.roots, min(max_length, MAX_CHAIN_LENGTH))
    refusal: RefusedContentError | None = None
    for chain in search.chains():
        try:
            _judge(chain, store, at, clock_skew)
        except RefusedContentError as exc:
            refusal = refusal or exc  # the shortest way's: the one that was meant, as a rule
        else:
            return chain
    raise refusal or search.refusal()


def verify_alone(
    certificate: x509.Certificate, store: TrustStore, at: datetime, *, clock_skew: timedelta = timedelta(0)
) -> Chain:
    """Judge a certificate that is trusted as it is, without any root: whoever placed it here vouches for it.

    Raises:
        RefusedContentError: as :func:`verify_chain`.
    """
    _judge((certificate,), store, at, clock_skew)
    return (certificate,)


# --- finding ways -----------------------------------------------------------------------------------------------------


class _Search:
    """All ways from a leaf to a root, shortest first, along certificates whose signatures hold."""

    def __init__(
        self,
        leaf: x509.Certificate,
        intermediates: Sequence[x509.Certificate],
        roots: Sequence[x509.Certificate],
        max_length: int,
    ) -> None:
        self._leaf = leaf
        self._intermediates = intermediates
        self._roots = frozenset(roots)
        self._issuers = [*roots, *intermediates]
        self._max_length = max_length
        self._left = MAX_CANDIDATES
        self._is_cut = False
        self._broken: RefusedContentError | None = None

    def chains(self) -> Iterator[Chain]:
        """Breadth first; a chain ends at the first root on it, and holds no certificate twice."""
        front: list[Chain] = [(self._leaf,)]
        while front:
            longer: list[Chain] = []
            for chain in front:
                if chain[-1] in self._roots:
                    yield chain
                    continue
                for issuer in self._issuers_of(chain):
                    if len(chain) >= self._max_length:
                        self._is_cut = True
                    else:
                        longer.append((*chain, issuer))
            front = longer

    def refusal(self) -> RefusedContentError:
        """Why there is no way."""
        if self._broken:
            return self._broken
        if self._is_cut:
            return CertificateChainError(
                f"the chain of {name_of(self._leaf)} is longer than {self._max_length} certificates, or too tangled"
            )
        return CertificateUntrustedError(f"no chain leads from {name_of(self._leaf)} to a root that is trusted here")

    def _issuers_of(self, chain: Chain) -> Iterator[x509.Certificate]:
        subject = chain[-1]
        for issuer in self._issuers:
            if issuer in chain or not _names_fit(subject, issuer):
                continue
            if self._left == 0:
                self._is_cut = True
                return
            self._left -= 1
            try:
                _require_signed_by(subject, issuer)
            except RefusedContentError as exc:
                self._broken = self._broken or exc
            except InvalidSignature:  # another authority of that name, or another key of it
                continue
            else:
                yield issuer


def _names_fit(subject: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        return subject.issuer == issuer.subject
    except (ValueError, TypeError):
        return False


def _require_signed_by(subject: x509.Certificate, issuer: x509.Certificate) -> None:
    if subject.signature_algorithm_oid != SignatureAlgorithmOID.ED25519:
        _require_sound_hash(subject)
    certified_key(issuer)  # before it is used: a key of absurd size makes the verification itself costly
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CertificateInvalidError(f"{name_of(subject)} is signed in a way that is not accepted here") from exc


def _require_sound_hash(certificate: x509.Certificate) -> None:
    try:
        algorithm = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise CertificateInvalidError(f"{name_of(certificate)} is signed in a way that is not accepted here") from exc
    if isinstance(algorithm, BROKEN_HASHES):
        raise WeakKeyError(f"{name_of(certificate)} is signed with {algorithm.name}, which is broken")


# --- judging one ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Extensions:
    """What a certificate says of its use; ``None`` where it says nothing."""

    constraints: x509.BasicConstraints | None
    usage: x509.KeyUsage | None
    purposes: x509.ExtendedKeyUsage | None


def _judge(chain: Chain, store: TrustStore, at: datetime, skew: timedelta) -> None:
    """RFC 5280, section 6.1, from the root on; the signatures (6.1.3 a.1) and names (a.4) hold since the search."""
    path_left = MAX_CHAIN_LENGTH
    for depth in range(len(chain) - 1, -1, -1):
        certificate = chain[depth]
        # 6.1.3 (a)(2): it is valid at that time.
        _require_in_date(certificate, at, skew)
        # 6.1.3 (a)(3): its issuer has not revoked it. A root is trusted because it is here, and revoked by removal.
        if depth + 1 < len(chain):
            require_not_revoked(certificate, chain[depth + 1], store.revocation_lists, at, skew)
        # Beyond the RFC: its key is of an accepted kind and strong enough.
        require_one_holder(certificate)
        # 6.1.4 (o), 6.1.5 (f): nothing critical is left aside.
        extensions = _extensions_of(certificate)
        if depth == 0:
            _require_signer(certificate, extensions)  # 6.1.5
        else:
            path_left = _require_authority(certificate, extensions, path_left)  # 6.1.4


def _require_authority(certificate: x509.Certificate, extensions: _Extensions, path_left: int) -> int:
    """How many more authorities may follow."""
    # 6.1.4 (k): of version 3, with basic constraints that say so.
    if certificate.version is not x509.Version.v3 or not (extensions.constraints and extensions.constraints.ca):
        raise CertificateChainError(f"{name_of(certificate)} is no authority's, and issued another")
    # 6.1.4 (l): a certificate that an authority issued to itself does not count.
    if not _names_fit(certificate, certificate):
        if path_left == 0:
            raise CertificateChainError(f"{name_of(certificate)} is one authority more than its issuer allows")
        path_left -= 1
    # 6.1.4 (m)
    if extensions.constraints.path_length is not None:
        path_left = min(path_left, extensions.constraints.path_length)
    # 6.1.4 (n)
    if extensions.usage and not extensions.usage.key_cert_sign:
        raise CertificateUsageError(f"{name_of(certificate)} may not sign certificates")
    # Beyond the RFC, as is the custom: an authority's purposes are those of what it issues.
    _require_purpose(certificate, extensions)
    return path_left


def _require_signer(certificate: x509.Certificate, extensions: _Extensions) -> None:
    # RFC 5280, section 4.2.1.3: without the extension, every use is allowed.
    usage = extensions.usage
    if usage and not (usage.digital_signature or usage.content_commitment):
        raise CertificateUsageError(f"{name_of(certificate)} is not for digital signatures")
    _require_purpose(certificate, extensions)


def _require_purpose(certificate: x509.Certificate, extensions: _Extensions) -> None:
    if extensions.purposes is not None and not _SIGNING_PURPOSES.intersection(extensions.purposes):
        raise CertificateUsageError(f"{name_of(certificate)} is for other purposes than signing code")


def _require_in_date(certificate: x509.Certificate, at: datetime, skew: timedelta) -> None:
    try:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError as exc:
        raise CertificateInvalidError(f"{name_of(certificate)} has malformed dates") from exc
    # RFC 5280, section 4.1.2.5: both ends belong to the period.
    if at < begins - skew:
        raise CertificateNotYetValidError(f"{name_of(certificate)} is not valid before {begins.isoformat()}")
    if at > ends + skew:
        raise CertificateExpiredError(f"{name_of(certificate)} has expired: it was valid until {ends.isoformat()}")


def _extensions_of(certificate: x509.Certificate) -> _Extensions:
    constraints = usage = purposes = None
    try:
        for extension in certificate.extensions:
            match extension.value:
                case x509.BasicConstraints():
                    constraints = extension.value
                case x509.KeyUsage():
                    usage = extension.value
                case x509.ExtendedKeyUsage():
                    purposes = extension.value
                case x509.NameConstraints():
                    raise CertificateChainError(f"{name_of(certificate)} constrains names, which is not supported")
            if extension.critical and extension.oid not in _UNDERSTOOD:
                raise CertificateInvalidError(
                    f"{name_of(certificate)} has a critical extension that is not understood: "
                    f"{extension.oid.dotted_string[:80]}"
                )
    except MALFORMED as exc:
        raise CertificateInvalidError(f"{name_of(certificate)} has malformed extensions") from exc
    return _Extensions(constraints, usage, purposes)
