"""Verifying where an image's bytes come from, on this side: by the services' own code, and trusting none of them.

It needs the extra ``tintype[trust]``, which is imported when it is first used.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tintype.api.catalog.v1 import catalog_pb2
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.client import decoding
from tintype.client.errors import trust_extra_missing
from tintype.client.models import Trust
from tintype.client.statuses import from_domain
from tintype.client.transport import Transport
from tintype.domain.errors import TintypeError
from tintype.domain.provenance import Provenance
from tintype.domain.values import Digest, image_id

if TYPE_CHECKING:
    from tintype.trust.custody import Custody, CustodyRules
    from tintype.trust.trust_store import TrustStore

_PIECE_BYTES = 1024 * 1024
_CERTIFICATE_ID = "img_signature_certificate_uuid"


class CustodyVerifier:
    """Verifies with one client's services: the catalog tells, and the signer says whom the site trusts."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def provenance(self, image: str) -> Provenance:
        """What the catalog tells of an image's road; nothing of it is proven.

        Raises:
            ClientError: the service refused.
        """
        request = catalog_pb2.GetProvenanceRequest(image_id=image, min_position=self._transport.position)
        message = await self._transport.call(self._transport.catalog.GetProvenance, request)
        return decoding.provenance(message)

    async def verify(
        self, image: str, trust: Trust | None, *, allow_unsigned: bool, provenance: Provenance | None = None
    ) -> Custody:
        """Fetch the provenance (unless it is given), and verify it.

        Raises:
            ContentError: a link of the chain is missing, or does not hold.
            ClientError: a service refused.
            ConfigurationError: the trust store cannot be read, or the extra is not installed.
        """
        told = provenance or await self.provenance(image)
        whom = trust or self._configured()
        with trust_part():
            from tintype.trust.custody import CustodyRules

            rules = CustodyRules(image_id(image), allow_unsigned=allow_unsigned)
            if whom.directory is not None:
                store = await asyncio.to_thread(_load, whom.directory)
            else:
                store, rules = await self._site(told, whom, rules)
            if told.signature_properties and not told.certificates:
                told = replace(told, certificates=await self._certificates(told))
            return await asyncio.to_thread(_verified, told, store, rules)

    def _configured(self) -> Trust:
        directory = self._transport.config.trust_store
        return Trust(Path(directory)) if directory else Trust()

    async def _site(self, told: Provenance, whom: Trust, rules: CustodyRules) -> tuple[TrustStore, CustodyRules]:
        """Whom the signer names, or the certificates that it has under the given ids."""
        from tintype.trust.pem import certificates_of
        from tintype.trust.revocation import require_not_taken_back
        from tintype.trust.trust_store import trust_store_of

        answer = await self._transport.call(self._transport.signer.GetTrust, pb.GetTrustRequest())
        store = trust_store_of(
            answer.roots,
            intermediates=answer.intermediates,
            revocation_lists=answer.revocation_lists,
            service_certificates={key.id: key.certificate for key in answer.service_keys},
        )
        ids = whom.certificate_ids
        if not ids:
            rules = replace(rules, allowed_signers=frozenset(answer.allowed_signers))
            # A site without roots trusts the certificates that it was given: the one of this id, and no other.
            named = told.signature_properties.get(_CERTIFICATE_ID, "")
            ids = (named,) if named and not answer.requires_chain else ()
        if not ids:
            return store, rules
        texts = [(each, await self._certificate(each)) for each in ids]
        found = [certificates_of(text, f"certificate {each[:80]!r}") for each, text in texts]
        roots = tuple(chain[0] for chain in found)
        more = tuple(each for chain in found for each in chain[1:])
        if whom.certificate_ids:
            authorities = (*store.roots, *store.intermediates, *more)
            for root in roots:
                require_not_taken_back(root, authorities, store.revocation_lists, now())
            # The service's own key vouches for its attestations; as a signer it counts only if it is one of these.
            rules = replace(rules, trusts_service_signers=False)
        return replace(store, roots=roots, intermediates=(*store.intermediates, *more)), rules

    async def _certificate(self, certificate_id: str) -> bytes:
        request = pb.GetCertificateRequest(certificate_id=certificate_id)
        return (await self._transport.call(self._transport.signer.GetCertificate, request)).certificate

    async def _certificates(self, told: Provenance) -> tuple[bytes, ...]:
        """For images that were verified by a release that kept no chain; who they are is judged all the same."""
        from cryptography.hazmat.primitives.serialization import Encoding

        from tintype.trust.pem import certificates_of

        named = told.signature_properties.get(_CERTIFICATE_ID, "")
        found = certificates_of(await self._certificate(named), f"certificate {named[:80]!r}")
        return tuple(each.public_bytes(Encoding.DER) for each in found)


# --- offline ----------------------------------------------------------------------------------------------------------


def write_bundle(provenance: Provenance) -> bytes:
    """A file from which the provenance can be verified without any service.

    Raises:
        ContentError: the attestation is damaged.
        ConfigurationError: the extra is not installed.
    """
    with trust_part():
        from tintype.trust import bundle

        return bundle.write_bundle(provenance)


def read_bundle(content: bytes) -> Provenance:
    """What a bundle tells; nothing of it is proven.

    Raises:
        ContentError: it is no bundle.
        ConfigurationError: the extra is not installed.
    """
    with trust_part():
        from tintype.trust import bundle

        return bundle.read_bundle(content)


def verify_bundle(
    provenance: Provenance,
    directory: Path,
    *,
    image: str = "",
    allow_unsigned: bool = False,
    at: datetime | None = None,
) -> Custody:
    """Verify what a bundle tells, trusting the certificates in ``directory`` alone; of ``image``, where that is given.

    Certificates are judged at ``at``, which is now unless it is given.

    Raises:
        ContentError: a link of the chain is missing, or does not hold.
        ConfigurationError: the trust store cannot be read, or the extra is not installed.
    """
    with trust_part():
        from tintype.trust.custody import CustodyRules

        rules = CustodyRules(image_id(image) if image else None, allow_unsigned=allow_unsigned)
        return _verified(provenance, _load(directory), rules, at)


def verify_file(custody: Custody, path: Path) -> Digest:
    """The digest of a local file, which is the image that ``custody`` is about. Blocks while it is read.

    Raises:
        ContentError: the file holds other bytes.
        OSError: it cannot be read.
    """
    with trust_part(), path.open("rb") as file:
        from tintype.trust.custody import require_bytes

        size, found = 0, hashlib.new(custody.digest.algorithm)
        while piece := file.read(_PIECE_BYTES):
            size += len(piece)
            found.update(piece)
        digest = Digest(custody.digest.algorithm, found.hexdigest())
        require_bytes(custody, size, digest)
        return digest


@contextmanager
def trust_part() -> Iterator[None]:
    """Translate what the verification refuses, and say which extra is missing.

    Raises:
        ClientError: instead of the domain's error.
        ConfigurationError: the extra is not installed.
    """
    try:
        yield
    except TintypeError as exc:
        raise from_domain(exc) from exc
    except ModuleNotFoundError as exc:
        raise trust_extra_missing(exc) from exc


def now() -> datetime:
    """The time that certificates are judged at."""
    return datetime.now(UTC)


def _load(directory: Path) -> TrustStore:
    from tintype.trust.trust_store import load_trust_store

    return load_trust_store(directory)


def _verified(provenance: Provenance, store: TrustStore, rules: CustodyRules, at: datetime | None = None) -> Custody:
    from tintype.trust.custody import verify_custody

    return verify_custody(provenance, store, at or now(), rules)
