"""The step VERIFY, on an image whose bytes are staged, and the question VerifyDigest."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from services.signer.checkpoint_calls import CheckpointCalls
from services.signer.checkpointing import Checkpointing, CheckpointLimits
from services.signer.digest_signing import DigestSigning
from services.signer.key_calls import KeyCalls
from services.signer.policy_calls import PolicyCalls
from services.signer.policy_tests import PolicyTests
from services.signer.servicer import SignerServicer
from services.signer.settings import SignerSection
from services.signer.trust import Trust
from services.signer.verifier import SignatureVerifier
from tintype.adapters.memory.checkpoints import MemoryCheckpointLog
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.api.events.v1 import events_pb2
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.domain.commands import Command, CreateImage, RecordStaged, RequestImport
from tintype.domain.errors import (
    CertificateNotFoundError,
    InvalidDigestError,
    KeyManagerUnavailableError,
    SignatureInvalidError,
    UnavailableError,
)
from tintype.domain.events import (
    EventContext,
    ImageStaged,
    ImageStepFailed,
    ImageVerified,
    ImportMethod,
    ImportRequested,
    ImportSource,
    StagePurpose,
    Step,
    Verdict,
)
from tintype.domain.lifecycle import Status
from tintype.domain.values import CommandId, PropertyValue, Received
from tintype.runtime import worker as worker_module
from tintype.runtime.clock import SystemClock
from tintype.runtime.journal import Journal
from tintype.runtime.worker import Worker, WorkerSettings
from tintype.testing.calls import call_by
from tintype.testing.clock import START, FakeClock
from tintype.testing.events import ATTRIBUTES, OPERATION, PROJECT, STAGED_BLOB, an_image_id

IMAGE = an_image_id()
DATA = b"the staged bytes"
DIGEST = hashlib.sha256(DATA).hexdigest()
DEADLINE_S = 10
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SIGNATURE = KEY.sign(DATA, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH), hashes.SHA256())
SIGNED: dict[str, PropertyValue] = {
    "img_signature": base64.b64encode(SIGNATURE).decode(),
    "img_signature_hash_method": "SHA-256",
    "img_signature_key_type": "RSA-PSS",
    "img_signature_certificate_uuid": "publisher",
}


def certificate() -> bytes:
    """The publisher's, valid at the fake clock's time."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Publisher")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(START - timedelta(days=1))
    signed = builder.not_valid_after(START + timedelta(days=1)).sign(KEY, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


class Certificates:
    """One certificate, or none while the source is away."""

    def __init__(self) -> None:
        self.failures = 0
        self.error: type[UnavailableError] = UnavailableError

    async def certificate(self, certificate_id: str) -> bytes:
        """The publisher's."""
        if self.failures:
            self.failures -= 1
            raise self.error("the source is away")
        if certificate_id != "publisher":
            raise CertificateNotFoundError(certificate_id)
        return certificate()


class Bench:
    """A log, and a worker that verifies."""

    def __init__(self, **settings: object) -> None:
        self.log = MemoryEventLog()
        self.journal = Journal(self.log, FakeClock())
        self.certificates = Certificates()
        self.keys = MemoryServiceKeys(MemoryKeyManager(FakeClock()))
        self.trust = Trust(SignerSection.model_validate(settings), self.keys)
        self.verifier = SignatureVerifier(self.certificates, self.trust, FakeClock())

    async def verify(
        self,
        properties: dict[str, PropertyValue],
        digests: dict[str, str] | None = None,
        received: Received | None = None,
    ) -> ImageVerified | ImageStepFailed:
        """How the step ends for an image with these properties."""
        blob = replace(STAGED_BLOB, digests=digests or {"sha256": DIGEST})
        commands: tuple[Command, ...] = (
            CreateImage(replace(ATTRIBUTES, properties=properties)),
            RequestImport(OPERATION, ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.org/disk")),
            RecordStaged(OPERATION, StagePurpose.IMPORT, blob, received),
        )
        for number, command in enumerate(commands):
            await self.journal.execute(
                IMAGE,
                command,
                project=PROJECT,
                command_id=CommandId(str(number)),
                context=EventContext("ann", "request", "request"),
            )
        worker = Worker(
            name="signer",
            event_log=self.log,
            clock=FakeClock(),
            steps={Step.VERIFY: self.verifier.verify_image},
            types=(ImageStaged, ImportRequested),
            settings=WorkerSettings(),
        )
        running = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                async for event in self.log.follow(after=0):
                    if isinstance(event.payload, ImageVerified | ImageStepFailed):
                        return event.payload
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        raise AssertionError("the log never ends")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries need not take their time here."""
    monkeypatch.setattr(worker_module, "_FIRST_RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(worker_module, "_LONGEST_RETRY_DELAY_S", 0.02)


async def test_signed_image_is_verified_against_the_staged_digest() -> None:
    outcome = await Bench().verify(SIGNED)
    assert isinstance(outcome, ImageVerified)
    assert outcome.verification.verdict is Verdict.SIGNED
    assert str(outcome.verification.digest) == f"sha256:{DIGEST}"


async def test_unsigned_image_passes_as_unsigned() -> None:
    outcome = await Bench().verify({})
    assert isinstance(outcome, ImageVerified)
    assert outcome.verification.verdict is Verdict.UNSIGNED


async def test_unsigned_image_is_refused_where_signatures_are_required() -> None:
    bench = Bench(require_signature=True)
    outcome = await bench.verify({})
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "SIGNATURE_MISSING"
    image = await bench.journal.load(IMAGE)
    assert image is not None
    assert image.status is Status.QUEUED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"img_signature": "!"}, "SIGNATURE_MALFORMED"),
        ({"img_signature": "AAAA"}, "SIGNATURE_MALFORMED"),
        ({"img_signature_hash_method": "MD5"}, "SIGNATURE_UNSUPPORTED"),
        ({"img_signature_key_type": ""}, "SIGNATURE_INCOMPLETE"),
        ({"img_signature_certificate_uuid": "../publisher"}, "CERTIFICATE_NOT_FOUND"),
    ],
)
async def test_refused_signature_fails_the_step_with_its_reason(change: dict[str, str], reason: str) -> None:
    outcome = await Bench().verify({**SIGNED, **change})
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == reason


async def test_other_bytes_than_were_signed_are_refused() -> None:
    outcome = await Bench().verify(SIGNED, {"sha256": hashlib.sha256(b"others").hexdigest()})
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "SIGNATURE_INVALID"


async def test_signature_that_was_changed_while_the_bytes_came_is_refused() -> None:
    outcome = await Bench().verify(SIGNED, {"sha512": "00" * 64})
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "SIGNATURE_CHANGED"


async def test_source_of_certificates_that_is_away_is_asked_again() -> None:
    bench = Bench()
    bench.certificates.failures = 2
    assert isinstance(await bench.verify(SIGNED), ImageVerified)


async def test_image_waits_while_the_key_manager_is_away_and_never_fails_of_it() -> None:
    bench = Bench()
    bench.certificates.failures = 40
    bench.certificates.error = KeyManagerUnavailableError
    assert isinstance(await bench.verify(SIGNED), ImageVerified)
    assert bench.certificates.failures == 0


async def test_what_was_verified_and_refused_is_in_the_log_with_its_evidence() -> None:
    bench = Bench()
    verified = await bench.verify(SIGNED)
    assert isinstance(verified, ImageVerified)
    assert verified.evidence is not None
    rules = await bench.trust.rules(PROJECT)
    assert verified.evidence.policy == rules.fingerprint
    assert [x509.load_der_x509_certificate(each) for each in verified.evidence.certificates] == [
        x509.load_pem_x509_certificate(certificate())
    ]
    refused = await Bench(allowed_signers=["ab" * 32]).verify(SIGNED)
    assert isinstance(refused, ImageStepFailed)
    assert refused.failure.reason == "SIGNER_NOT_ALLOWED"
    assert refused.failure.evidence["certificate_subject"] == "CN=Publisher"
    assert set(refused.failure.evidence) == {
        "policy", "certificate_id", "certificate_fingerprint", "certificate_subject"
    }  # fmt: skip


async def asked(digest: str, properties: dict[str, str]) -> pb.VerifyDigestResponse:
    """VerifyDigest's answer."""
    request = pb.VerifyDigestRequest(digest=digest, properties=properties)
    bench = Bench()
    keys = KeyCalls(bench.keys, DigestSigning(bench.keys, ()), bench.certificates)
    policies = PolicyCalls(bench.trust, PolicyTests(bench.log, bench.journal, bench.verifier, bench.trust))
    limits = CheckpointLimits(1000, 300)
    checkpoints = CheckpointCalls(Checkpointing(bench.log, MemoryCheckpointLog(), bench.keys, SystemClock(), limits))
    return await SignerServicer(bench.verifier, keys, policies, checkpoints).VerifyDigest(request, call_by())


TEXTS = {name: str(value) for name, value in SIGNED.items()}


async def test_verify_digest_answers_as_the_road_would() -> None:
    answer = await asked(f"sha256:{DIGEST}", {**TEXTS, "os_distro": "debian"})
    assert answer.verification.verdict == events_pb2.VERDICT_SIGNED


async def test_verify_digest_refuses_another_digest() -> None:
    with pytest.raises(SignatureInvalidError):
        await asked("sha256:" + "0" * 64, TEXTS)


@pytest.mark.parametrize("digest", ["", "sha256:xyz", "sha512:" + "0" * 128])
async def test_verify_digest_needs_a_digest_of_the_declared_kind(digest: str) -> None:
    with pytest.raises(InvalidDigestError):
        await asked(digest, TEXTS)


async def test_signature_of_a_compressed_image_covers_what_was_sent() -> None:
    stored = {"sha256": hashlib.sha256(b"what was inside").hexdigest()}
    sent = Received(len(DATA), {"sha256": DIGEST}, "gzip")
    outcome = await Bench().verify(SIGNED, stored, sent)
    assert isinstance(outcome, ImageVerified)
    assert outcome.verification.digest is not None
    assert outcome.verification.digest.hex == DIGEST
    swapped = await Bench().verify(SIGNED, {"sha256": DIGEST}, Received(9, stored, "gzip"))
    assert isinstance(swapped, ImageStepFailed)
    assert swapped.failure.reason == SignatureInvalidError.reason
