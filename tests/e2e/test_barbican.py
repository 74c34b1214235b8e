"""A stack whose publishers' certificates are in a real Barbican, which goes away and comes back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tintype.client
from tests.backends.keystone_barbican import Site, password_of
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.stack import Stack
from tintype.client import Client, OperationFailedError, Status
from tintype.domain.values import Digest
from tintype.testing.certificates import Authority, pem, root_authority, rsa_key
from tintype.trust.signing import sign_digest, signature_properties

pytestmark = [pytest.mark.barbican, pytest.mark.timeout(900)]

DEADLINE_S = 120
DATA = bytes(range(256)) * 4096
DIGEST = Digest("sha256", hashlib.sha256(DATA).hexdigest())
BEGAN, ENDS = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(days=1)
ROOT = root_authority(begins=BEGAN, ends=ENDS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, key_manager: Site) -> Iterator[Stack]:
    """A stack that asks Barbican."""
    folder = tmp_path_factory.mktemp("barbican")
    (folder / "password").write_text(password_of("signer"))
    (folder / "password").chmod(0o600)
    (folder / "roots").mkdir()
    (folder / "roots" / "root.pem").write_bytes(ROOT.pem)
    settings = {
        "AUTH_URL": key_manager.auth_url,
        "USERNAME": "signer",
        "PROJECT": "images",
        "PASSWORD_FILE": str(folder / "password"),
        "CACHE_S": "0",
    }
    barbican = {f"TINTYPE_SIGNER__BARBICAN__{name}": value for name, value in settings.items()}
    roots = {"TINTYPE_SIGNER__TRUSTED_ROOTS_DIR": str(folder / "roots")}
    stack = Stack(folder, {**ENVIRONMENT, **barbican, **roots})
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture
async def at_site(site: Stack) -> AsyncIterator[Client]:
    async with tintype.client.connect(site.client_config) as connected:
        yield connected


def published(key_manager: Site, authority: Authority) -> str:
    """A publisher's certificate in Barbican; its UUID."""
    made = authority.issue("Publisher", rsa_key().public_key(), begins=BEGAN, ends=ENDS)
    secret = key_manager.barbican("publisher").secrets.create(payload=pem(made), secret_type="certificate")
    return str(secret.store()).rpartition("/")[2]


async def signed_upload(client: Client, folder: Path, certificate_id: str) -> tuple[str, tintype.client.Upload]:
    """An image that says that it is signed, and its bytes on their way."""
    (folder / "disk.raw").write_bytes(DATA)
    properties = signature_properties(sign_digest(rsa_key(), DIGEST), DIGEST, "RSA-PSS", certificate_id)
    image = await client.images.create(
        "signed", disk_format="raw", container_format="bare", properties=dict(properties)
    )
    return image.id, await client.images.upload(image.id, folder / "disk.raw")


async def test_an_image_is_verified_with_a_certificate_of_barbicans(
    at_site: Client, tmp_path: Path, key_manager: Site
) -> None:
    certificate_id = published(key_manager, ROOT)
    image_id, upload = await signed_upload(at_site, tmp_path, certificate_id)
    await at_site.operations.wait(upload, timeout_s=DEADLINE_S)
    image = await at_site.images.get(image_id)
    assert image.status is Status.ACTIVE
    assert image.verification is not None
    assert image.verification.certificate_id == certificate_id


async def test_a_certificate_in_barbican_that_leads_to_no_root_is_refused(
    at_site: Client, tmp_path: Path, key_manager: Site
) -> None:
    stranger = root_authority("Stranger", begins=BEGAN, ends=ENDS)
    _, upload = await signed_upload(at_site, tmp_path, published(key_manager, stranger))
    with pytest.raises(OperationFailedError) as refused:
        await at_site.operations.wait(upload, timeout_s=DEADLINE_S)
    assert refused.value.reason == "CERTIFICATE_UNTRUSTED"


async def test_an_image_whose_certificate_nobody_has_is_refused(
    at_site: Client, tmp_path: Path, key_manager: Site
) -> None:
    unknown = "11111111-2222-4333-8444-555555555555"
    _, upload = await signed_upload(at_site, tmp_path, unknown)
    with pytest.raises(OperationFailedError) as refused:
        await at_site.operations.wait(upload, timeout_s=DEADLINE_S)
    assert refused.value.reason == "CERTIFICATE_NOT_FOUND"


async def test_an_image_waits_while_barbican_is_down_and_becomes_active_when_it_is_back(
    at_site: Client, site: Stack, tmp_path: Path, key_manager: Site
) -> None:
    certificate_id = published(key_manager, ROOT)
    key_manager.kill("barbican")
    try:
        image_id, upload = await signed_upload(at_site, tmp_path, certificate_id)
        log = site.data / "logs" / "signer.log"
        async with asyncio.timeout(DEADLINE_S):
            while "image waits for a key manager" not in log.read_text():
                await asyncio.sleep(0.05)
        assert (await at_site.images.get(image_id)).status is not Status.ACTIVE
    finally:
        key_manager.start()
    await at_site.operations.wait(upload, timeout_s=DEADLINE_S)
    assert (await at_site.images.get(image_id)).status is Status.ACTIVE
