"""The signer's step VERIFY, and what answers the same question outside of an image's road: by the project's policy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from services.signer.trust import Rules, Trust
from tintype.domain.commands import RecordVerified
from tintype.domain.errors import (
    InternalError,
    InvalidDigestError,
    RefusedContentError,
    SignatureChangedError,
)
from tintype.domain.events import Verdict, Verification, VerificationEvidence
from tintype.domain.image import Image
from tintype.domain.values import Digest, ProjectId, PropertyValue
from tintype.ports.certificates import CertificateSource
from tintype.ports.clock import Clock
from tintype.runtime.worker import StepRun
from tintype.trust.judging import judge_signature, judge_unsigned
from tintype.trust.signatures import declared_signature


@dataclass(frozen=True, slots=True)
class Judgment:
    """What was verified, and what that is based on."""

    verification: Verification
    evidence: VerificationEvidence


class SignatureVerifier:
    """Verifies with certificates of one source, under the policy of each project."""

    def __init__(self, certificates: CertificateSource, trust: Trust, clock: Clock) -> None:
        self._certificates = certificates
        self._trust = trust
        self._clock = clock

    async def verify(
        self, project: ProjectId, properties: Mapping[str, PropertyValue], digests: Mapping[str, str]
    ) -> Judgment:
        """Verify what the properties declare over the bytes that have these digests (algorithm → hex).

        Raises:
            SignatureMissingError: nothing is declared, and the project wants a signature.
            RefusedContentError: as :mod:`tintype.trust.judging` says.
            InvalidDigestError: the digest that the signature covers is not among the digests.
            UnavailableError: the source of certificates, or of trust, does not answer.
        """
        rules = await self._trust.rules(project)
        try:
            return await self._judge(rules, properties, digests)
        except RefusedContentError as exc:
            exc.evidence = {"policy": rules.fingerprint, **exc.evidence}
            raise

    async def _judge(
        self, rules: Rules, properties: Mapping[str, PropertyValue], digests: Mapping[str, str]
    ) -> Judgment:
        declared = declared_signature(properties)
        if declared is None:
            judge_unsigned(rules.store, rules.policy)
            return Judgment(Verification(Verdict.UNSIGNED), VerificationEvidence(rules.fingerprint))
        value = digests.get(declared.digest_algorithm)
        if value is None:
            raise InvalidDigestError(f"a {declared.hash_method} signature needs a {declared.digest_algorithm} digest")
        pem = await self._certificates.certificate(declared.certificate_id)
        verification, chain = await asyncio.to_thread(
            judge_signature,
            declared,
            Digest(declared.digest_algorithm, value),
            pem,
            rules.store,
            rules.policy,
            self._clock.now(),
        )
        certificates = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
        return Judgment(verification, VerificationEvidence(rules.fingerprint, certificates))

    async def verify_image(self, image: Image, run: StepRun) -> RecordVerified:
        """The step VERIFY: only digests that were taken while staging count, never what somebody claims.

        Raises:
            RefusedContentError: the image's signature is refused.
            SignatureChangedError: the digest that the signature covers was not taken while staging.
        """
        operation = image.operation
        if operation is None or operation.staged is None:
            raise InternalError(f"image {image.id} has nothing staged to verify")
        judgment = await self.verify_recorded(image)
        run.tell_progress(operation.staged.size, operation.staged.size)
        return RecordVerified(operation.id, judgment.verification, judgment.evidence)

    async def verify_recorded(self, image: Image) -> Judgment:
        """Judge an image by the digests that its history tells, under its project's policy of today.

        Raises:
            RefusedContentError: the image's signature is refused.
            SignatureChangedError: the digest that the signature covers was not taken while staging.
            UnavailableError: as :meth:`verify`.
            InternalError: the history tells of no bytes.
        """
        try:
            return await self.verify(image.project, image.attributes.properties, sent_digests(image))
        except InvalidDigestError as exc:
            raise SignatureChangedError("the signature asks for another digest than was taken of the bytes") from exc


def sent_digests(image: Image) -> Mapping[str, str]:
    """The digests of the bytes as they were sent: a publisher signs what is sent; of bytes that were decompressed, that
    is not what is stored.

    Raises:
        InternalError: none were ever staged.
    """
    if image.data:
        return (image.data.received or image.data.source).digests
    if image.operation and (sent := image.operation.received or image.operation.staged):
        return sent.digests
    raise InternalError(f"image {image.id} has nothing staged to verify")
