"""Signing on request: for whom, what, and what is answered; rotation; and whose certificate an id names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.signer import digest_signing
from services.signer.digest_signing import DigestSigning
from services.signer.key_calls import KeyCalls
from services.signer.keys import key_files
from services.signer.keys.own import CertificatesWithOwn
from services.signer.settings import SignerSection
from services.signer.trust import Trust
from services.signer.verifier import SignatureVerifier
from tintype.adapters.memory.certificates import MemoryCertificates
from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.domain.errors import (
    CertificateInvalidError,
    CertificateNotFoundError,
    InvalidDigestError,
    InvalidIdentifierError,
    KeyManagerUnavailableError,
    NotPermittedError,
    SignatureInvalidError,
    SigningNotPermittedError,
    TooManyKeysError,
)
from tintype.domain.events import Verdict
from tintype.testing.calls import call_by
from tintype.testing.certificates import ec_key, private_pem, root_authority
from tintype.testing.clock import FakeClock
from tintype.testing.events import PROJECT
from tintype.trust import trust_store

DATA = b"the bytes of a snapshot"
FIRST = "tintype-20261127-00000001"


class Bench:
    """A signer's calls over keys in memory."""

    def __init__(self, sign_for: Sequence[str] = ("default",)) -> None:
        self.manager = MemoryKeyManager(FakeClock())
        self.keys = MemoryServiceKeys(self.manager)
        self.publishers = MemoryCertificates()
        self.publishers.put("publisher-1", root_authority("Publisher").pem)
        self.certificates = CertificatesWithOwn(self.publishers, self.keys)
        self.signing = DigestSigning(self.keys, sign_for)
        self.calls = KeyCalls(self.keys, self.signing, self.certificates)

    async def sign(self, digest: str, **caller: Any) -> pb.SignDigestResponse:
        return await self.calls.sign_digest(pb.SignDigestRequest(digest=digest), context(**caller))


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.keys.rotate(FIRST)
    return made


def verifier_of(bench: Bench) -> SignatureVerifier:
    settings = SignerSection(require_signature=True)
    return SignatureVerifier(bench.certificates, Trust(settings, bench.keys), FakeClock())


def context(project: str = "default", *, is_admin: bool = False) -> Any:
    return call_by(project, "nova", is_admin=is_admin)


def digest_of(data: bytes, algorithm: str) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@pytest.mark.parametrize("algorithm", ["sha224", "sha256"])
async def test_signed_digest_verifies_as_on_the_road_of_an_image(bench: Bench, algorithm: str) -> None:
    answer = await bench.sign(digest_of(DATA, algorithm))
    assert answer.properties["img_signature_certificate_uuid"] == FIRST
    assert answer.certificate == (await bench.keys.keys())[0].certificate
    verifier = verifier_of(bench)
    digests = {algorithm: hashlib.new(algorithm, DATA).hexdigest()}
    found = (await verifier.verify(PROJECT, dict(answer.properties), digests)).verification
    assert (found.verdict, found.certificate_id) == (Verdict.SIGNED, FIRST)
    other = {algorithm: hashlib.new(algorithm, b"others").hexdigest()}
    with pytest.raises(SignatureInvalidError):
        await verifier.verify(PROJECT, dict(answer.properties), other)


@pytest.mark.parametrize("sign_for", [(), ("another",)])
async def test_service_signs_for_the_projects_of_its_settings_alone(sign_for: tuple[str, ...]) -> None:
    bench = Bench(sign_for)
    await bench.keys.rotate(FIRST)
    with pytest.raises(SigningNotPermittedError) as refused:
        await bench.sign(digest_of(DATA, "sha256"), is_admin=True)
    assert "sign_for" in refused.value.hint


async def test_star_is_every_project() -> None:
    bench = Bench(("*",))
    await bench.keys.rotate(FIRST)
    assert (await bench.sign(digest_of(DATA, "sha256"), project="whichever")).properties


async def test_service_signs_for_nobody_by_itself() -> None:
    assert SignerSection().sign_for == ()


@pytest.mark.parametrize("projects", ["a b", "../x", "**", "a,*/"])
def test_setting_names_projects(projects: str) -> None:
    with pytest.raises(ValueError, match="is not a project id"):
        SignerSection.model_validate({"sign_for": projects})


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:xyz", digest_of(DATA, "md5"), digest_of(DATA, "sha1"), "blake2b:00", "x" * 9999]
)
async def test_what_is_no_digest_to_sign_is_refused(bench: Bench, digest: str) -> None:
    with pytest.raises(InvalidDigestError):
        await bench.sign(digest)


async def test_key_manager_that_is_away_is_retryable(bench: Bench) -> None:
    bench.manager.is_away = True
    with pytest.raises(KeyManagerUnavailableError) as refused:
        await bench.sign(digest_of(DATA, "sha256"))
    assert refused.value.retryable


async def test_a_key_manager_without_a_key_that_signs_is_retryable() -> None:
    with pytest.raises(KeyManagerUnavailableError, match="no key that signs"):
        await Bench().sign(digest_of(DATA, "sha256"))


async def test_who_had_what_signed_stands_in_the_log(bench: Bench) -> None:
    with capture_logs() as lines:
        await bench.sign(digest_of(DATA, "sha256"))
    (line,) = lines
    assert line["event"] == "digest was signed"
    assert (line["key_id"], line["actor"], line["project"]) == (FIRST, "nova", "default")
    assert line["digest"] == digest_of(DATA, "sha256")


async def rotated(bench: Bench, request_id: str, *, is_admin: bool = True) -> pb.ServiceKey:
    return await bench.calls.rotate_key(pb.RotateKeyRequest(request_id=request_id), context(is_admin=is_admin))


async def test_number_of_keys_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trust store holds all of them, and a directory that is too full can be read no more."""
    assert digest_signing.MAX_KEYS < trust_store.MAX_FILES < key_files.MAX_FILES / 2
    # The newest begins a second after the one before it: none may begin in the future.
    assert timedelta(seconds=digest_signing.MAX_KEYS) < timedelta(minutes=5)
    monkeypatch.setattr(digest_signing, "MAX_KEYS", 2)
    made = await rotated(bench, "one")
    with pytest.raises(TooManyKeysError):
        await rotated(bench, "two")
    assert (await rotated(bench, "one")).id == made.id
    assert len(await bench.keys.keys()) == 2


async def test_only_an_administrator_rotates(bench: Bench) -> None:
    with pytest.raises(NotPermittedError):
        await rotated(bench, "one", is_admin=False)
    assert len(await bench.keys.keys()) == 1


async def test_repeated_rotation_is_one_key_and_two_lines_in_the_log(bench: Bench) -> None:
    with capture_logs() as lines:
        first, second = await rotated(bench, "one"), await rotated(bench, "one")
    assert first == second and first.active
    assert [(line["event"], line["is_new"], line["key_id"]) for line in lines] == [
        ("key was rotated", True, first.id),
        ("key was rotated", False, first.id),
    ]


@pytest.mark.parametrize("request_id", ["", "x" * 129, "a\nb", "\x00"])
async def test_malformed_request_rotates_nothing(bench: Bench, request_id: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        await rotated(bench, request_id)
    assert len(await bench.keys.keys()) == 1


async def test_new_key_signs_and_old_signatures_verify_after_a_rotation(bench: Bench) -> None:
    verifier = verifier_of(bench)
    digests = {"sha256": hashlib.sha256(DATA).hexdigest()}
    old = dict((await bench.sign(digest_of(DATA, "sha256"))).properties)
    made = await rotated(bench, "one")
    new = dict((await bench.sign(digest_of(DATA, "sha256"))).properties)
    assert new["img_signature_certificate_uuid"] == made.id != old["img_signature_certificate_uuid"]
    for properties in (old, new):
        assert (await verifier.verify(PROJECT, properties, digests)).verification.verdict is Verdict.SIGNED
    mixed = {**old, "img_signature_certificate_uuid": made.id}
    with pytest.raises(SignatureInvalidError):
        await verifier.verify(PROJECT, mixed, digests)


async def test_listed_keys_are_public_parts_newest_first(bench: Bench) -> None:
    made = await rotated(bench, "one")
    listed = await bench.calls.list_keys(pb.ListKeysRequest(), context())
    assert [(key.id, key.active) for key in listed.keys] == [(made.id, True), (FIRST, False)]
    assert all(key.certificate.startswith(b"-----BEGIN CERTIFICATE-----") for key in listed.keys)


async def asked(bench: Bench, certificate_id: str) -> bytes:
    request = pb.GetCertificateRequest(certificate_id=certificate_id)
    return (await bench.calls.get_certificate(request, context())).certificate


async def test_certificate_is_a_publishers_or_the_services_own(bench: Bench) -> None:
    assert await asked(bench, "publisher-1") == await bench.publishers.certificate("publisher-1")
    assert await asked(bench, FIRST) == (await bench.keys.keys())[0].certificate
    for unknown in ("nobody", "", "../publisher-1"):
        with pytest.raises(CertificateNotFoundError):
            await asked(bench, unknown)


async def test_publisher_cannot_pass_for_the_service_nor_the_service_for_a_publisher(bench: Bench) -> None:
    bench.publishers.put(FIRST, b"somebody else's")
    with pytest.raises(CertificateInvalidError, match="a key of the service"):
        await asked(bench, FIRST)


@pytest.mark.parametrize(
    "settings", [{"pkcs11_module": "/m.so"}, {"pkcs11_token": "t"}, {"pkcs11_module": "/m.so", "pkcs11_token": "t"}]
)
def test_token_is_named_whole(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="set all three"):
        SignerSection.model_validate(settings)


async def test_what_lies_beside_a_certificate_is_nobodys(bench: Bench) -> None:
    """Many programs want the certificate and its private key in one file; here everybody may ask for it."""
    found, key = root_authority(), private_pem(ec_key("beside"))
    bench.publishers.put("publisher-1", b"a comment\n" + key + found.pem + b"\nsecret behind")
    answer = await bench.calls.get_certificate(pb.GetCertificateRequest(certificate_id="publisher-1"), context())
    assert answer.certificate == found.pem


@pytest.mark.parametrize(
    "content", [b"the passphrase of a disk", private_pem(ec_key("alone"))], ids=["passphrase", "private key"]
)
async def test_a_secret_that_is_no_certificate_is_told_to_nobody(bench: Bench, content: bytes) -> None:
    """The signer reads what its user may see in Barbican, and whoever asks it may not."""
    bench.publishers.put("publisher-1", content)
    with pytest.raises(CertificateInvalidError) as caught:
        await bench.calls.get_certificate(pb.GetCertificateRequest(certificate_id="publisher-1"), context())
    assert content.decode() not in str(caught.value)
