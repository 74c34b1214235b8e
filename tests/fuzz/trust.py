"""Certificates, revocation lists and signatures, as strangers name and send them.

The invariant: a verdict, or a ``RefusedContentError``; the library's own exceptions stay inside.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fuzz.target import Target
from tintype.domain.errors import RefusedContentError, TrustStoreError
from tintype.domain.values import Digest
from tintype.testing.certificates import Authority, PrivateKey, ec_key, root_authority, rsa_key
from tintype.testing.clock import START
from tintype.trust.chains import verify_chain
from tintype.trust.der import BIT_STRING, SEQUENCE, elements, encoded, encoded_identifier
from tintype.trust.judging import judge_signature
from tintype.trust.pem import certificates_and_lists
from tintype.trust.policy import SignaturePolicy
from tintype.trust.public_keys import BINARY_CURVES, certified_key
from tintype.trust.signatures import declared_signature
from tintype.trust.signing import key_type_of, sign_digest, signature_properties
from tintype.trust.trust_store import TrustStore, trust_store_of

DIGEST = Digest("sha256", hashlib.sha256(b"the bytes of an image").hexdigest())
_EC_OID = "1.2.840.10045.2.1"


def targets() -> Mapping[str, Target]:
    """One for each thing that is read."""
    return {
        "certificate": Target(run_certificate, certificates),
        "pem": Target(run_pem, pem_texts),
        "revocation-list": Target(run_revocation_list, revocation_lists),
        "signature-properties": Target(run_properties, property_values),
    }


def _root() -> Authority:
    return root_authority("Root", key=ec_key("fuzz root"))


def _pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(der) + f"-----END {label}-----\n".encode()


# --- a signer's certificate -------------------------------------------------------------------------------------------


def run_certificate(content: bytes) -> None:
    """Judge a signature with it, pinned and by its chain; ``content`` is its DER."""
    root = _root()
    store = TrustStore((root.certificate,), revocation_lists=(root.revocation_list(),))
    pem = _pem("CERTIFICATE", content)
    for key in _keys():
        properties = signature_properties(sign_digest(key, DIGEST), DIGEST, key_type_of(key, "key"), "publisher")
        declared = declared_signature(dict(properties))
        assert declared is not None
        for requires_chain in (False, True):
            policy = SignaturePolicy(requires_chain=requires_chain, max_certificate_age_days=100)
            with suppress(RefusedContentError):
                judge_signature(declared, DIGEST, pem, store, policy, START)
    with suppress(RefusedContentError):
        (certificate,), _ = certificates_and_lists(pem, "it")
        certified_key(certificate)
    # As an authority, by whoever has its key.
    with suppress(RefusedContentError, TrustStoreError):
        anchored = trust_store_of([pem])
        verify_chain(_leaf(), anchored.roots, anchored, START)


def _keys() -> tuple[PrivateKey, ...]:
    return ec_key("fuzz"), rsa_key(2048)


def _leaf() -> x509.Certificate:
    return _root().issue("Signer", ec_key("fuzz").public_key())


def certificates() -> Iterator[bytes]:
    """Of signers and authorities, with keys of every kind and many extensions."""
    root = _root()
    more: list[tuple[x509.ExtensionType, bool]] = [
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
        (x509.SubjectAlternativeName([x509.DNSName("example.org"), x509.RFC822Name("a@example.org")]), False),
        (x509.NameConstraints([x509.DNSName("example.org")], None), True),
        (x509.PolicyConstraints(0, 1), True),
    ]
    for key in (*_keys(), ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()):
        yield root.issue("Signer", key.public_key()).public_bytes(Encoding.DER)
    for extension in more:
        yield root.issue("Signer", ec_key("fuzz").public_key(), more=[extension]).public_bytes(Encoding.DER)
    yield root.certificate.public_bytes(Encoding.DER)
    yield root.authority("Middle", path_length=0).certificate.public_bytes(Encoding.DER)
    yield from (on_binary_curve(name) for name in BINARY_CURVES)


def on_binary_curve(key_type: str) -> bytes:
    """A certificate's DER whose key is replaced by a point of the right form; its signature does not hold."""
    curve = BINARY_CURVES[key_type]
    algorithm = encoded(SEQUENCE, encoded_identifier(_EC_OID) + encoded_identifier(curve.oid))
    point = encoded(BIT_STRING, b"\x00\x04" + bytes(2 * curve.coordinate_bytes))
    (whole,) = elements(_leaf().public_bytes(Encoding.DER))
    tbs, *rest = elements(whole.content)
    fields = elements(tbs.content)
    content = [encoded(field.tag, field.content) for field in fields]
    content[6] = encoded(SEQUENCE, algorithm + point)
    changed = encoded(SEQUENCE, b"".join(content))
    return encoded(SEQUENCE, changed + b"".join(encoded(each.tag, each.content) for each in rest))


# --- PEM and revocation lists -----------------------------------------------------------------------------------------


def run_pem(content: bytes) -> None:
    """Read it as a publisher's certificates, and as a trusted root."""
    with suppress(RefusedContentError):
        certificates_and_lists(content, "it")
    with suppress(TrustStoreError):
        trust_store_of([content], revocation_lists=[content], service_certificates={"key": content})


def pem_texts() -> Iterator[bytes]:
    """Whole and in pieces."""
    root = _root()
    whole = _pem("CERTIFICATE", root.certificate.public_bytes(Encoding.DER))
    lists = _pem("X509 CRL", root.revocation_list(root.certificate).public_bytes(Encoding.DER))
    yield from (whole, lists, whole + lists, whole * 3, whole[:-30], b"-----BEGIN CERTIFICATE-----\n" * 20)


def run_revocation_list(content: bytes) -> None:
    """Hold a certificate against it."""
    with suppress(TrustStoreError, RefusedContentError):
        root = _root()
        own = trust_store_of([_pem("CERTIFICATE", root.certificate.public_bytes(Encoding.DER))],
                             revocation_lists=[_pem("X509 CRL", content)])  # fmt: skip
        verify_chain(_leaf(), (), own, START)


def revocation_lists() -> Iterator[bytes]:
    """With entries, and without."""
    root, leaf = _root(), _leaf()
    yield root.revocation_list().public_bytes(Encoding.DER)
    yield root.revocation_list(leaf, root.certificate).public_bytes(Encoding.DER)
    yield root.revocation_list(leaf, more=[(x509.CRLNumber(7), False)]).public_bytes(Encoding.DER)
    yield root.revocation_list(more=[(x509.DeltaCRLIndicator(7), True)]).public_bytes(Encoding.DER)


# --- properties -------------------------------------------------------------------------------------------------------


def run_properties(content: bytes) -> None:
    """The four properties are the lines of a text; a signature that they declare is judged with every kind of key."""
    lines = content.decode("utf-8", "replace").split("\n")
    names = ("img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid")
    with suppress(RefusedContentError):
        declared = declared_signature(dict(zip(names, lines, strict=False)))
        if declared is None:
            return
        digest = Digest(declared.digest_algorithm, hashlib.new(declared.digest_algorithm, b"").hexdigest())
        for key in _keys():
            certificate = _root().issue("Signer", key.public_key()).public_bytes(Encoding.DER)
            with suppress(RefusedContentError):
                judge_signature(
                    declared, digest, _pem("CERTIFICATE", certificate), TrustStore(), SignaturePolicy(), START
                )


def property_values() -> Iterator[bytes]:
    """Of good signatures, and of some that are none."""
    for key in _keys():
        properties = signature_properties(sign_digest(key, DIGEST), DIGEST, key_type_of(key, "key"), "publisher")
        yield "\n".join(properties.values()).encode()
    yield b"AAAA\nSHA-512\nED25519\nx"
    yield b"!\nMD5\nRSA\n"
