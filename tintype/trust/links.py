"""The links of a chain of custody, told one by one: what each is about, and who vouches for it.

Nothing is judged here: :mod:`tintype.trust.custody` has proven them before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tintype.domain.events import SkipReason, Verification
from tintype.domain.values import STRONG_DIGESTS
from tintype.trust.chains import Chain
from tintype.trust.statement import Attested, Converted


class LinkName(StrEnum):
    """The links of the chain, in their order."""

    SIGNATURE = "publisher's signature"
    ORIGIN = "origin"
    SENT = "bytes as sent"
    GUEST_DISK = "guest's disk"
    CONVERTED = "conversion"
    PUBLISHED = "published bytes"


class Proof(StrEnum):
    """Who vouches for a link."""

    PUBLISHER = "publisher"
    """The publisher's signature."""

    SERVICE = "service"
    """The service's attestation alone, or its own key, with which it signs the images of others too."""

    BOTH = "publisher and service"
    """Either would do."""

    NOBODY = "nobody"
    """There is nothing to prove it by; what follows does not rest on it."""


@dataclass(frozen=True, slots=True)
class Link:
    """One link, what it is about in a few words, and who vouches for it."""

    name: LinkName
    detail: str
    proof: Proof


def links_of(attested: Attested, signer: Verification, chain: Chain, by: Proof) -> tuple[Link, ...]:
    """All links in their order; ``by`` is whose word the signature is."""
    sent, published, made = attested.sent, attested.published, attested.conversion
    is_same = not isinstance(made, Converted) and not sent.compression
    both = Proof.BOTH if by is Proof.PUBLISHER else Proof.SERVICE
    links = [Link(LinkName.SIGNATURE, _signature(signer, chain, by), by)]
    if attested.origin is not None:
        links.append(Link(LinkName.ORIGIN, attested.origin.summary, Proof.SERVICE))
    links.append(Link(LinkName.SENT, str(signer.digest or _strongest(sent.digests)), both))
    links.append(
        Link(
            LinkName.GUEST_DISK,
            sent.guest_digest or published.guest_digest or "not known",
            Proof.SERVICE if sent.guest_digest or published.guest_digest else Proof.NOBODY,
        )
    )
    links.append(Link(LinkName.CONVERTED, _conversion(made, sent.compression), Proof.SERVICE))
    told = signer.digest if is_same else None
    links.append(
        Link(LinkName.PUBLISHED, str(told or _strongest(published.digests)), both if is_same else Proof.SERVICE)
    )
    return tuple(links)


def _signature(signer: Verification, chain: Chain, by: Proof) -> str:
    match by:
        case Proof.NOBODY:
            return "none"
        case Proof.SERVICE:
            whose = "a key of the service"
        case _:
            whose = "a chain of one certificate" if len(chain) == 1 else f"a chain of {len(chain)} certificates"
    return f"{signer.key_type} by {signer.certificate_subject}, {whose}"


def _conversion(made: Converted | SkipReason, compression: str) -> str:
    unpacked = f"decompressed ({compression}); " if compression else ""
    if not isinstance(made, Converted):
        return f"{unpacked}none: {made}"
    sandbox = f", sandbox: {made.sandbox.kind}" if made.sandbox else ""
    return f"{unpacked}{made.tool} {made.version} {' '.join(made.arguments)}{sandbox}"[:400]


def _strongest(digests: Mapping[str, str]) -> str:
    return next((f"{name}:{digests[name]}" for name in STRONG_DIGESTS if name in digests), "")
