"""A publisher's OpenPGP signature over a list of checksums. Blocking, and without a network: for a thread.

Sequoia verifies; what it gets are packets of the right kinds only. It refuses MD5 and SHA-1, short keys, signatures
from the future, and keys that are revoked for a reason that reaches back. Here, beyond it: a key that has expired by
now, or was revoked for whatever reason, signs nothing, however old the signature claims to be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

import pysequoia
from pysequoia.packet import SignatureType

from tintype.domain.errors import ChecksumsMalformedError, ChecksumsSignatureError, PublisherKeyError
from tintype.domain.openpgp import SIGNATURE, packets, publisher_certificates

MAX_SIGNATURE_BYTES = 64 * 1024
MAX_SIGNATURES = 16

_OVER_DATA = (SignatureType.Binary, SignatureType.Text)

# RFC 9580, 7: the text stands between two armor headers, and the signature follows.
_CLEARTEXT = re.compile(
    rb"-----BEGIN PGP SIGNED MESSAGE-----[ \t]*\r?\n"
    rb"(?:Hash: [^\n]*\n){0,16}"
    rb"\r?\n"
    rb"(?P<text>.*?)\r?\n"
    rb"(?P<signature>-----BEGIN PGP SIGNATURE-----.*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class SignedText:
    """What was verified: the text, and the fingerprint of the OpenPGP certificate that signed it (upper-case hex)."""

    text: bytes
    fingerprint: str


def verified_detached(text: bytes, signature: bytes, publisher_key: bytes, at: datetime) -> SignedText:
    """Verify that one of the detached signatures over ``text`` is the publisher's.

    Raises:
        PublisherKeyError: the key cannot be read, has expired or is revoked.
        ChecksumsSignatureError: there is no signature, or none is the publisher's over this text.
    """
    certificates = [_Certificate(raw) for raw in publisher_certificates(publisher_key)]
    usable = [certificate for certificate in certificates if certificate.trouble(at) == ""]
    if not usable:
        raise PublisherKeyError(f"the publisher's key {certificates[0].name} {certificates[0].trouble(at)}")
    for packet in _signatures(signature):
        for certificate in usable:
            if certificate.has_signed(text, packet, at):
                return SignedText(text, certificate.name)
    raise ChecksumsSignatureError(
        "the list of checksums is not signed by the publisher's key " + ", ".join(each.name for each in usable)
    )


def verified_cleartext(message: bytes, publisher_key: bytes, at: datetime) -> SignedText:
    """Verify a list that holds its own signature; the text that is returned is what the signature covers.

    Raises:
        ChecksumsMalformedError: it is no such list.
        PublisherKeyError, ChecksumsSignatureError: as for :func:`verified_detached`.
    """
    found = _CLEARTEXT.fullmatch(message)
    if found is None:
        raise ChecksumsMalformedError("the list of checksums has no signature in it, and none beside it was named")
    # Blanks at the ends of lines are not covered, nor the dashes that escape a line; lines end as in a network's text.
    lines = [line.rstrip(b" \t\r").removeprefix(b"- ") for line in found["text"].split(b"\n")]
    return verified_detached(b"\r\n".join(lines), found["signature"], publisher_key, at)


class _Certificate:
    """One of the publisher's certificates."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        try:
            self._parsed = pysequoia.Cert.from_bytes(raw)
        except BaseException as exc:
            _require_caught(exc)
            raise PublisherKeyError("the publisher's key is an OpenPGP certificate that cannot be read") from None
        self.name = self._parsed.fingerprint.upper()

    def trouble(self, at: datetime) -> str:
        """Why it can verify nothing; empty where it can."""
        try:
            if self._parsed.is_revoked:
                return "is revoked"
            expiration = self._parsed.expiration
        except BaseException as exc:  # no signature of its own says what it is for
            _require_caught(exc)
            return "is not valid"
        return f"has expired on {expiration:%Y-%m-%d}" if expiration and expiration <= at else ""

    def has_signed(self, text: bytes, signature: bytes, at: datetime) -> bool:
        """Whether this signature packet is a valid one over the text, of a key that may still sign."""
        try:
            parsed = pysequoia.Sig.from_bytes(signature)
            if parsed.signature_type not in _OVER_DATA:
                return False
            verified = pysequoia.verify(bytes=text, store=lambda _: [self._parsed], signature=parsed)
        except BaseException as exc:
            _require_caught(exc)
            return False
        return any(self._may_sign(found.signing_key.upper(), at) for found in verified.valid_sigs)

    def _may_sign(self, fingerprint: str, at: datetime) -> bool:
        """Whether the key is the primary one, or a subkey that is neither revoked nor expired now."""
        if fingerprint == self.name:
            return True
        is_it, created, newest, lasts_until = False, None, None, None
        for packet in pysequoia.packet.PacketPile.from_bytes(self._raw):
            if packet.fingerprint is not None:
                is_it, created = packet.fingerprint.upper() == fingerprint, packet.key_created
            elif is_it and packet.signature_type == SignatureType.SubkeyRevocation:
                return False
            elif is_it and packet.signature_type == SignatureType.SubkeyBinding:
                made, period = packet.signature_created, packet.key_validity_period
                if made and (newest is None or made > newest):
                    newest, lasts_until = made, created + period if created and period else None
        return newest is not None and (lasts_until is None or lasts_until > at)


def _signatures(data: bytes) -> list[bytes]:
    try:
        found = packets(data)
    except ValueError as exc:
        raise ChecksumsSignatureError(f"what was named as the signature is none: {exc}") from None
    if not 1 <= len(found) <= MAX_SIGNATURES or any(packet.tag != SIGNATURE for packet in found):
        raise ChecksumsSignatureError("what was named as the signature is none, or holds something else")
    return [packet.raw for packet in found]


def _require_caught(exc: BaseException) -> None:
    """Let through what is no answer of the library's: it says with RuntimeError what is wrong, and with a panic."""
    if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
        raise exc
