"""The signer's policy and its step: which images must be signed, and VERIFY on an image's road."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tintype.domain.commands import RecordVerified
from tintype.domain.errors import InternalError, InvalidDigestError, SignatureChangedError, SignatureMissingError
from tintype.domain.events import Verdict, Verification
from tintype.domain.image import Image
from tintype.domain.values import Digest, PropertyValue
from tintype.ports.certificates import CertificateSource
from tintype.ports.clock import Clock
from tintype.runtime.worker import StepRun
from tintype.trust.judging import judge_signature
from tintype.trust.policy import SignaturePolicy
from tintype.trust.signatures import declared_signature
from tintype.trust.trust_store import TrustStore


class SignatureVerifier:
    """Verifies with certificates of one source, under one policy."""

    def __init__(self, certificates: CertificateSource, clock: Clock, *, require_signature: bool) -> None:
        self._certificates = certificates
        self._clock = clock
        self._require_signature = require_signature

    async def verify(self, properties: Mapping[str, PropertyValue], digests: Mapping[str, str]) -> Verification:
        """Verify what the properties declare over the bytes that have these digests (algorithm → hex).

        Raises:
            SignatureMissingError: nothing is declared, and the site wants a signature.
            RefusedContentError: as :mod:`tintype.trust.signatures` says.
            InvalidDigestError: the digest that the signature covers is not among the digests.
            UnavailableError: the source of certificates does not answer.
        """
        declared = declared_signature(properties)
        if declared is None:
            if self._require_signature:
                raise SignatureMissingError("this site takes signed images only, and the image has no signature")
            return Verification(Verdict.UNSIGNED)
        value = digests.get(declared.digest_algorithm)
        if value is None:
            raise InvalidDigestError(f"a {declared.hash_method} signature needs a {declared.digest_algorithm} digest")
        certificate = await self._certificates.certificate(declared.certificate_id)
        digest = Digest(declared.digest_algorithm, value)
        judged = await asyncio.to_thread(
            judge_signature, declared, digest, certificate, TrustStore(), SignaturePolicy(), self._clock.now()
        )
        return judged[0]

    async def verify_image(self, image: Image, run: StepRun) -> RecordVerified:
        """The step VERIFY: only digests that were taken while staging count, never what somebody claims.

        Raises:
            RefusedContentError: the image's signature is refused.
            SignatureChangedError: the digest that the signature covers was not taken while staging.
        """
        operation = image.operation
        if operation is None or operation.staged is None:
            raise InternalError(f"image {image.id} has nothing staged to verify")
        try:
            # A publisher signs what is sent; of bytes that were decompressed, that is not what is stored.
            sent = operation.received or operation.staged
            verification = await self.verify(image.attributes.properties, sent.digests)
        except InvalidDigestError as exc:
            raise SignatureChangedError("the signature asks for another digest than was taken of the bytes") from exc
        run.tell_progress(operation.staged.size, operation.staged.size)
        return RecordVerified(operation.id, verification)
