"""What a publisher's signed list says about the bytes of an import: fetched, verified and read before they are.

The list and its signature come over the same guarded way as the image. It owns their bounds in size and time; what the
signature is worth is the matter of :mod:`services.importer.publisher_signature`.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from services.importer.publisher_signature import (
    MAX_SIGNATURE_BYTES,
    SignedText,
    verified_cleartext,
    verified_detached,
)
from services.importer.sources.http import WebSource
from tintype.domain.checksums import MAX_LIST_BYTES, file_name_of, listed_digest
from tintype.domain.errors import (
    ChecksumsMalformedError,
    ChecksumsSignatureError,
    DigestMismatchError,
    ImageTooLargeError,
    SourceError,
    SourceInterruptedError,
)
from tintype.domain.events import ImportSource, Origin, SignedChecksums
from tintype.domain.values import STRONG_DIGESTS, Digest
from tintype.ports.clock import Clock

log = structlog.get_logger(__name__)

FETCH_TIMEOUT_S = 120.0
"""For the list, and again for its signature."""


@dataclass(frozen=True, slots=True)
class ExpectedOrigin:
    """What there is to prove: ``origin`` is true of bytes that have its digest, which ``listed_digest`` is as well,
    where a publisher's list has it.
    """

    listed_digest: Digest | None = None
    origin: Origin | None = None


class Origins:
    """Finds out what imports have to bring."""

    def __init__(self, source: WebSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock

    async def expected_of(self, asked: ImportSource) -> ExpectedOrigin:
        """The digests that the user and the publisher expect.

        Raises:
            SourceError, InvalidUriError: the list or its signature cannot be had.
            PublisherKeyError: the publisher's key can verify nothing.
            ChecksumsSignatureError: the list is not signed with it.
            ChecksumsMalformedError, ChecksumsIncompleteError: the list does not say what the file's digest is.
            DigestMismatchError: the list says another digest than the user did.
        """
        said = asked.expected_digest
        if asked.checksums is None:
            # MD5 and SHA-1 are compared by the pass, and prove nothing.
            is_proof = said is not None and said.algorithm in STRONG_DIGESTS
            return ExpectedOrigin(origin=Origin(asked.uri, said) if said and is_proof else None)
        name = file_name_of(asked.uri)
        signed = await self._verified(asked.checksums)
        listed = await asyncio.to_thread(listed_digest, signed.text, name)
        if said and said.algorithm == listed.algorithm and said != listed:
            raise DigestMismatchError(f"the publisher's list has another {listed.algorithm} digest than was expected")
        log.info("list of checksums was verified", fingerprint=signed.fingerprint, digest=str(listed))
        origin = Origin(asked.uri, listed, asked.checksums.uri, signed.fingerprint)
        return ExpectedOrigin(listed, origin)

    async def _verified(self, checksums: SignedChecksums) -> SignedText:
        text = await self._fetched(checksums.uri, MAX_LIST_BYTES, "the list of checksums")
        if text is None:
            raise ChecksumsMalformedError(f"the list of checksums has more than {MAX_LIST_BYTES} bytes")
        now = self._clock.now()
        if not checksums.signature_uri:
            return await asyncio.to_thread(verified_cleartext, text, checksums.publisher_key, now)
        signature = await self._fetched(checksums.signature_uri, MAX_SIGNATURE_BYTES, "the list's signature")
        if signature is None:
            raise ChecksumsSignatureError(f"the list's signature has more than {MAX_SIGNATURE_BYTES} bytes")
        return await asyncio.to_thread(verified_detached, text, signature, checksums.publisher_key, now)

    async def _fetched(self, uri: str, max_size: int, what: str) -> bytes | None:
        """All that is at ``uri``, or ``None`` where it is more than ``max_size`` bytes; ``what`` is for the error."""
        found = bytearray()
        pieces = self._source.download(uri, max_size=max_size, expected_size=None, announce=lambda _: None)
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S), aclosing(pieces):
                async for piece in pieces:
                    found += piece
                    if len(found) > max_size:
                        return None
        except ImageTooLargeError:
            return None
        except SourceError as exc:
            raise type(exc)(f"{what}: {exc.message}") from exc
        except TimeoutError as exc:
            raise SourceInterruptedError(f"{what} took longer than {FETCH_TIMEOUT_S:.0f} s") from exc
        return bytes(found)
