"""Certificates from a real Barbican: what is one, who may see it, and what happens while it is away."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from services.signer.keys.barbican import BarbicanCertificates
from services.signer.keys.directory import MAX_CERTIFICATE_BYTES, CertificateDirectory
from services.signer.keys.several import SeveralSources
from services.signer.settings import SignerSection
from services.signer.trust import Trust
from services.signer.verifier import SignatureVerifier
from tests.backends.keystone_barbican import Site, password_of
from tests.contract.certificate_sources import UNKNOWN_ID, barbican_section
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.domain.commands import Command, CreateImage, RecordStaged, RequestImport
from tintype.domain.errors import (
    CertificateNotFoundError,
    ConfigurationError,
    KeyManagerUnavailableError,
    KeyPermissionsError,
    RefusedContentError,
)
from tintype.domain.events import (
    EventContext,
    ImageStaged,
    ImageStepFailed,
    ImageVerified,
    ImportMethod,
    ImportSource,
    StagePurpose,
    Step,
    Verdict,
)
from tintype.domain.values import CommandId, Digest, PropertyValue
from tintype.ports.certificates import CertificateSource
from tintype.runtime import worker as worker_module
from tintype.runtime.journal import Journal
from tintype.runtime.worker import Worker, WorkerSettings
from tintype.testing.certificates import pem, private_pem, root_authority, rsa_key
from tintype.testing.clock import FakeClock
from tintype.testing.events import ATTRIBUTES, OPERATION, PROJECT, STAGED_BLOB, an_image_id
from tintype.trust.signing import sign_digest, signature_properties

pytestmark = [pytest.mark.barbican, pytest.mark.timeout(900), pytest.mark.xdist_group("barbican")]

ROOT = root_authority()
CERTIFICATE = ROOT.issue("Publisher", rsa_key().public_key())
PEM, DER = pem(CERTIFICATE), CERTIFICATE.public_bytes(Encoding.DER)
DATA = b"the bytes of an image"
DIGEST = Digest("sha256", hashlib.sha256(DATA).hexdigest())
DEADLINE_S = 60


def store(site: Site, payload: bytes | str, kind: str = "certificate", user: str = "publisher") -> str:
    """Put a secret in; its UUID."""
    return str(site.barbican(user).secrets.create(payload=payload, secret_type=kind).store()).rpartition("/")[2]


@asynccontextmanager
async def opened(
    site: Site, root: Path, monotonic: Callable[[], float] = lambda: 0.0, **settings: object
) -> AsyncIterator[BarbicanCertificates]:
    source = BarbicanCertificates(barbican_section(site, root, **settings), monotonic=monotonic)
    try:
        yield source
    finally:
        await source.aclose()


@contextmanager
def paused(site: Site, name: str) -> Iterator[None]:
    site.pause(name)
    try:
        yield
    finally:
        site.resume(name)


@contextmanager
def killed(site: Site, name: str) -> Iterator[None]:
    site.kill(name)
    try:
        yield
    finally:
        site.start()


# --- what is a certificate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "kind"), [(PEM, "certificate"), (PEM.decode(), "certificate"), (DER, "certificate"), (PEM, "opaque")]
)
async def test_a_certificate_is_read_however_it_was_stored(
    key_manager: Site, tmp_path: Path, payload: bytes | str, kind: str
) -> None:
    async with opened(key_manager, tmp_path) as source:
        found = await source.certificate(store(key_manager, payload, kind))
    assert found.split() == PEM.split()


async def test_an_id_may_be_written_in_capitals(key_manager: Site, tmp_path: Path) -> None:
    async with opened(key_manager, tmp_path) as source:
        assert await source.certificate(store(key_manager, PEM).upper()) == PEM


@pytest.mark.parametrize("kind", ["private", "symmetric", "passphrase", "public"])
async def test_a_secret_of_another_kind_is_no_certificate(key_manager: Site, tmp_path: Path, kind: str) -> None:
    content = private_pem(rsa_key()) if kind == "private" else PEM
    async with opened(key_manager, tmp_path) as source:
        with pytest.raises(CertificateNotFoundError):
            await source.certificate(store(key_manager, content, kind))


async def test_a_secret_that_is_too_large_is_no_certificate(
    key_manager: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.signer.keys.barbican.MAX_CERTIFICATE_BYTES", len(PEM) - 1)
    assert len(PEM) < MAX_CERTIFICATE_BYTES
    async with opened(key_manager, tmp_path) as source:
        with pytest.raises(CertificateNotFoundError):
            await source.certificate(store(key_manager, PEM))


async def test_a_secret_without_a_payload_is_no_certificate(key_manager: Site, tmp_path: Path) -> None:
    secret = key_manager.barbican("publisher").secrets.create(secret_type="certificate")
    async with opened(key_manager, tmp_path) as source:
        with pytest.raises(CertificateNotFoundError):
            await source.certificate(str(secret.store()).rpartition("/")[2])


async def test_a_container_gives_its_certificate_and_intermediates(key_manager: Site, tmp_path: Path) -> None:
    barbican = key_manager.barbican("publisher")
    parts: dict[str, Any] = {
        name: barbican.secrets.create(payload=content, secret_type=kind)
        for name, content, kind in (
            ("certificate", PEM, "certificate"),
            ("intermediates", ROOT.pem, "certificate"),
            ("private_key", private_pem(rsa_key()), "private"),
        )
    }
    for part in parts.values():
        part.store()
    container = barbican.containers.create_certificate(name="publisher", **parts)
    async with opened(key_manager, tmp_path) as source:
        found = await source.certificate(str(container.store()).rpartition("/")[2])
    assert found.split() == (PEM + ROOT.pem).split()
    assert b"PRIVATE" not in found


async def test_a_container_of_something_else_is_no_certificate(key_manager: Site, tmp_path: Path) -> None:
    container = key_manager.barbican("publisher").containers.create(name="empty")
    async with opened(key_manager, tmp_path) as source:
        with pytest.raises(CertificateNotFoundError):
            await source.certificate(str(container.store()).rpartition("/")[2])


# --- who may see it ---------------------------------------------------------------------------------------------------


async def test_another_projects_secret_is_not_found(key_manager: Site, tmp_path: Path) -> None:
    async with opened(key_manager, tmp_path) as source:
        with pytest.raises(CertificateNotFoundError):
            await source.certificate(store(key_manager, PEM, user="stranger"))


async def test_an_application_credential_signs_in_too(key_manager: Site, tmp_path: Path) -> None:
    session = key_manager.session("signer")
    url = f"{key_manager.auth_url}/users/{session.get_user_id()}/application_credentials"
    made = session.post(url, json={"application_credential": {"name": tmp_path.name}}).json()["application_credential"]
    (tmp_path / "secret").write_text(made["secret"])
    (tmp_path / "secret").chmod(0o600)
    own: dict[str, Any] = {"username": "", "project": "", "application_credential_id": made["id"]}
    async with opened(key_manager, tmp_path, password_file=tmp_path / "secret", **own) as source:
        assert await source.certificate(store(key_manager, PEM)) == PEM


async def test_barbicans_place_may_be_given_instead_of_the_catalogs(key_manager: Site, tmp_path: Path) -> None:
    certificate_id = store(key_manager, PEM)
    async with opened(key_manager, tmp_path, endpoint=key_manager.barbican_url) as source:
        assert await source.certificate(certificate_id) == PEM
    async with opened(key_manager, tmp_path, interface="internal", region="RegionOne") as source:
        assert await source.certificate(certificate_id) == PEM


@pytest.mark.parametrize(
    "settings",
    [
        {"username": "nobody"},
        {"project": "other"},
        {"region": "Elsewhere"},
        {"interface": "admin"},  # the catalog has none of Barbican's
        {"endpoint": "http://127.0.0.1:1"},
        {"auth_url": "http://127.0.0.1:1/v3"},
    ],
)
async def test_a_key_manager_that_lets_nobody_in_is_unavailable(
    key_manager: Site, tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with opened(key_manager, tmp_path, **settings) as source:
        with pytest.raises(KeyManagerUnavailableError):
            await source.certificate(UNKNOWN_ID)


async def test_a_wrong_password_is_told_nowhere(
    key_manager: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    (tmp_path / "wrong").write_text("correct-horse-battery\n")
    (tmp_path / "wrong").chmod(0o600)
    async with opened(key_manager, tmp_path, password_file=tmp_path / "wrong") as source:
        with pytest.raises(KeyManagerUnavailableError) as refused:
            await source.certificate(UNKNOWN_ID)
    captured = capsys.readouterr()
    assert "correct-horse-battery" not in f"{refused.value} {captured.out} {captured.err} {caplog.text}"


async def test_a_password_that_others_may_read_is_refused(key_manager: Site, tmp_path: Path) -> None:
    section = barbican_section(key_manager, tmp_path)
    assert section.password_file is not None
    section.password_file.chmod(0o640)
    with pytest.raises(KeyPermissionsError):
        BarbicanCertificates(section, monotonic=lambda: 0.0)
    section.password_file.unlink()
    with pytest.raises(ConfigurationError):
        BarbicanCertificates(section, monotonic=lambda: 0.0)


# --- for how long -----------------------------------------------------------------------------------------------------


async def test_a_deleted_certificate_counts_until_it_is_forgotten_and_no_longer(
    key_manager: Site, tmp_path: Path
) -> None:
    now = 0.0
    async with opened(key_manager, tmp_path, lambda: now, cache_s=60) as source:
        certificate_id = store(key_manager, PEM)
        await source.certificate(certificate_id)
        key_manager.barbican("publisher").secrets.delete(certificate_id)
        now = 59.9
        assert await source.certificate(certificate_id) == PEM
        now = 60.1
        with pytest.raises(CertificateNotFoundError):
            await source.certificate(certificate_id)


async def test_what_was_not_found_is_asked_for_again(key_manager: Site, tmp_path: Path) -> None:
    async with opened(key_manager, tmp_path, cache_s=60) as source:
        with pytest.raises(CertificateNotFoundError):
            await source.certificate(UNKNOWN_ID)
        assert await source.certificate(store(key_manager, PEM)) == PEM


# --- while it is away -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["barbican", "keystone"])
@pytest.mark.parametrize("away", [paused, killed])
async def test_a_key_manager_that_is_away_is_unavailable_and_comes_back(
    key_manager: Site, tmp_path: Path, name: str, away: Callable[[Site, str], Any]
) -> None:
    certificate_id = store(key_manager, PEM)
    async with opened(key_manager, tmp_path, timeout_s=1) as source:
        with away(key_manager, name), pytest.raises(KeyManagerUnavailableError):
            await source.certificate(certificate_id)
    async with opened(key_manager, tmp_path) as source:
        assert await source.certificate(certificate_id) == PEM
        with away(key_manager, "keystone"):  # who has signed in needs no Keystone, but Barbican does
            pass
        assert await source.certificate(certificate_id) == PEM


class Watched:
    """A source that counts how often it was away."""

    def __init__(self, source: CertificateSource, times: int) -> None:
        self._source = source
        self._times = times
        self.was_away = asyncio.Event()

    async def certificate(self, certificate_id: str) -> bytes:
        try:
            return await self._source.certificate(certificate_id)
        except KeyManagerUnavailableError:
            self._times -= 1
            if self._times == 0:
                self.was_away.set()
            raise


async def test_an_image_waits_while_barbican_is_away_and_goes_on_when_it_is_back(
    key_manager: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_FIRST_RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(worker_module, "_LONGEST_RETRY_DELAY_S", 0.05)
    clock = FakeClock()
    log = MemoryEventLog()
    journal = Journal(log, clock)
    certificate_id = store(key_manager, PEM)
    async with opened(key_manager, tmp_path, timeout_s=5) as barbican:
        source = Watched(barbican, times=WorkerSettings().max_attempts + 2)
        trust = Trust(SignerSection(), MemoryServiceKeys(MemoryKeyManager(clock)))
        verifier = SignatureVerifier(source, trust, clock)
        await stage(journal, signed_properties(certificate_id))
        worker = Worker(
            name="signer",
            event_log=log,
            clock=clock,
            steps={Step.VERIFY: verifier.verify_image},
            types=(ImageStaged,),
            settings=WorkerSettings(),
        )
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            with killed(key_manager, "barbican"):
                running = tasks.create_task(worker.run())
                await source.was_away.wait()
                history = await journal.history(an_image_id())
                assert isinstance(history[-1].payload, ImageStaged)
            outcome = await ended(log)
            running.cancel()
    assert isinstance(outcome, ImageVerified)
    assert outcome.verification.verdict is Verdict.SIGNED
    assert outcome.verification.certificate_id == certificate_id


def signed_properties(certificate_id: str) -> dict[str, PropertyValue]:
    return dict(signature_properties(sign_digest(rsa_key(), DIGEST), DIGEST, "RSA-PSS", certificate_id))


async def stage(journal: Journal, properties: dict[str, PropertyValue]) -> None:
    """An image whose bytes are staged."""
    blob = replace(STAGED_BLOB, digests={DIGEST.algorithm: DIGEST.hex})
    commands: tuple[Command, ...] = (
        CreateImage(replace(ATTRIBUTES, properties=properties)),
        RequestImport(OPERATION, ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.org/disk")),
        RecordStaged(OPERATION, StagePurpose.IMPORT, blob),
    )
    for number, command in enumerate(commands):
        await journal.execute(
            an_image_id(),
            command,
            project=PROJECT,
            command_id=CommandId(str(number)),
            context=EventContext("ann", "request", "request"),
        )


async def ended(log: MemoryEventLog) -> ImageVerified | ImageStepFailed:
    async for event in log.follow(after=0):
        if isinstance(event.payload, ImageVerified | ImageStepFailed):
            return event.payload
    raise AssertionError("the log never ends")


# --- several sources, and others who read the same secrets ------------------------------------------------------------


async def test_the_directory_is_asked_first_and_barbican_behind_it(key_manager: Site, tmp_path: Path) -> None:
    certificate_id = store(key_manager, PEM)
    async with opened(key_manager, tmp_path) as barbican:
        source = SeveralSources([CertificateDirectory(tmp_path), barbican])
        assert await source.certificate(certificate_id) == PEM
        (tmp_path / f"{certificate_id}.pem").write_bytes(ROOT.pem)
        (tmp_path / "publisher.pem").write_bytes(ROOT.pem)
        with killed(key_manager, "barbican"):
            assert await source.certificate(certificate_id) == ROOT.pem
            assert await source.certificate("publisher") == ROOT.pem
            with pytest.raises(KeyManagerUnavailableError):
                await source.certificate(UNKNOWN_ID)
        with pytest.raises(CertificateNotFoundError):
            await source.certificate(UNKNOWN_ID)


def cursive(site: Site, properties: dict[str, PropertyValue], data: bytes) -> str:
    """How cursive refuses, if it does, with Barbican behind it as Glance and Nova have it."""
    script = Path(__file__).parents[2] / "backends" / "cursive_verifier.py"
    who = ("signer", password_of("signer"), "images")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, site.auth_url, site.barbican_url, *who],
        input=json.dumps({**properties, "data": base64.b64encode(data).decode()}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("algorithm", ["sha224", "sha256", "sha384", "sha512"])
async def test_cursive_verifies_over_barbican_what_was_signed_here(key_manager: Site, algorithm: str) -> None:
    digest = Digest(algorithm, hashlib.new(algorithm, DATA).hexdigest())
    certificate_id = store(key_manager, PEM)
    properties = dict(signature_properties(sign_digest(rsa_key(), digest), digest, "RSA-PSS", certificate_id))
    assert cursive(key_manager, dict(properties), DATA) == ""
    assert cursive(key_manager, dict(properties), DATA + b"!") == "InvalidSignature"


async def test_what_cursive_accepts_over_barbican_is_verified_here(key_manager: Site, tmp_path: Path) -> None:
    # As Glance's documentation has it: the certificate stored in PEM, the signature with the longest salt.
    certificate_id = store(key_manager, PEM)
    properties = signed_properties(certificate_id)
    assert cursive(key_manager, properties, DATA) == ""
    async with opened(key_manager, tmp_path) as source:
        clock = FakeClock()
        trust = Trust(SignerSection(), MemoryServiceKeys(MemoryKeyManager(clock)))
        found = await SignatureVerifier(source, trust, clock).verify(
            PROJECT, properties, {DIGEST.algorithm: DIGEST.hex}
        )
    assert found.verification.certificate_id == certificate_id


async def test_an_expired_certificate_that_cursive_accepts_is_refused_here(key_manager: Site, tmp_path: Path) -> None:
    clock = FakeClock()
    old = ROOT.issue("Old", rsa_key().public_key(), ends=clock.now() - timedelta(seconds=1))
    properties = signed_properties(store(key_manager, pem(old)))
    assert cursive(key_manager, properties, DATA) == ""
    async with opened(key_manager, tmp_path) as source:
        trust = Trust(SignerSection(), MemoryServiceKeys(MemoryKeyManager(clock)))
        with pytest.raises(RefusedContentError):
            await SignatureVerifier(source, trust, clock).verify(PROJECT, properties, {DIGEST.algorithm: DIGEST.hex})
