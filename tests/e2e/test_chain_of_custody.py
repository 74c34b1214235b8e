"""The chain of custody as users hold it: signed and unsigned, converted and not, by SDK, by command, offline."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tintype.client
from tests.e2e.commands import Run, run_tintype, runner
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.roads import DEADLINE_S, imported
from tests.e2e.stack import Stack, stored_files
from tests.e2e.web_source import web_source
from tintype.api.signer.v1 import signer_pb2, signer_pb2_grpc
from tintype.cli.exit_codes import ExitCode
from tintype.client import Client, ContentError, Image, IntegrityError, Status, Trust, Verify, custody
from tintype.domain.values import Digest
from tintype.testing.certificates import Authority, ec_key, root_authority
from tintype.testing.certificates import pem as pem_of
from tintype.trust.links import LinkName, Proof
from tintype.trust.signing import sign_digest, signature_properties

PUBLISHER = "publisher-1"


@dataclass(frozen=True)
class Site:
    """A running stack that trusts one authority, and a directory of whom a careful user trusts."""

    stack: Stack
    root: Authority
    trust: Path

    @property
    def service_keys(self) -> Path:
        """Where the stack keeps the certificates of its own keys."""
        return self.stack.data / "keys"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("custody")
    now = datetime.now(UTC)
    root = root_authority(begins=now - timedelta(days=2), ends=now + timedelta(days=3))
    signer = root.issue(
        "Publisher", ec_key("publisher").public_key(), begins=now - timedelta(days=1), ends=now + timedelta(days=1)
    )
    for name in ("certificates", "roots", "trust", "trust/service-keys"):
        (folder / name).mkdir()
    (folder / "certificates" / f"{PUBLISHER}.pem").write_bytes(pem_of(signer))
    (folder / "roots" / "root.pem").write_bytes(root.pem)
    (folder / "trust" / "root.pem").write_bytes(root.pem)
    settings = {
        "TINTYPE_SIGNER__CERTIFICATE_DIR": str(folder / "certificates"),
        "TINTYPE_SIGNER__TRUSTED_ROOTS_DIR": str(folder / "roots"),
    }
    stack = Stack(folder, {**ENVIRONMENT, **settings})
    stack.start()
    found = Site(stack, root, folder / "trust")
    copy_service_keys(found)
    yield found
    assert stack.stop() == 0


def copy_service_keys(site: Site) -> None:
    """Over a way that is trusted, as an operator would."""
    for path in site.service_keys.glob("*.pem"):
        shutil.copy(path, site.trust / "service-keys" / path.name)


@pytest.fixture
async def client(site: Site) -> AsyncIterator[Client]:
    async with tintype.client.connect(site.stack.client_config) as connected:
        yield connected


@pytest.fixture
def tintype_(site: Site, tmp_path: Path) -> Run:
    """Runs `tintype WORDS…` against the site."""
    return runner(site.stack, tmp_path)


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """That of a command that failed with `--output json`."""
    return str(json.loads(done.stderr.splitlines()[-1])["error"]["reason"])


def properties(content: bytes) -> dict[str, str]:
    """What the publisher signs."""
    digest = Digest("sha512", hashlib.sha512(content).hexdigest())
    return dict(signature_properties(sign_digest(ec_key("publisher"), digest), digest, "ECC_SECP256R1", PUBLISHER))


async def uploaded(client: Client, content: bytes, *, is_signed: bool = True) -> Image:
    """An image that is published as it was sent."""
    signed: Any = properties(content) if is_signed else {}
    image = await client.images.create(
        f"upload-{uuid.uuid4()}", disk_format="raw", container_format="bare", properties=signed
    )
    upload = await client.images.upload(image.id, pieces(content))
    await client.operations.wait(upload, timeout_s=DEADLINE_S)
    image = await client.images.get(image.id)
    assert image.status is Status.ACTIVE
    return image


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def converted(client: Client, disks: Path, tmp_path: Path, *, is_signed: bool = True) -> Image:
    """An image that was qcow2 when its publisher signed it, and is raw."""
    content = (disks / "disk.qcow2").read_bytes()
    (folder := tmp_path / "web").mkdir(exist_ok=True)
    signed: Any = properties(content) if is_signed else {}
    return await imported(client, folder, content, "qcow2", properties=signed)


def stored(site: Site, image: Image) -> Path:
    """The file that holds the image's bytes."""
    (name,) = [name for name in stored_files(site.stack) if image.id in name]
    return site.stack.data / "store" / name


# --- what is proven ---------------------------------------------------------------------------------------------------


async def test_converted_bytes_are_proven_while_they_arrive(
    site: Site, client: Client, disks: Path, tmp_path: Path
) -> None:
    image = await converted(client, disks, tmp_path)
    done = await client.images.download(image.id, tmp_path / "disk", trust=Trust(site.trust))
    assert (tmp_path / "disk").read_bytes() == (disks / "disk.raw").read_bytes()
    assert done.custody is not None and done.custody.is_signed and done.custody.image_id == image.id
    assert done.digest == str(done.custody.digest)
    proofs = {link.name: link.proof for link in done.custody.links}
    assert (proofs[LinkName.SIGNATURE], proofs[LinkName.SENT]) == (Proof.PUBLISHER, Proof.BOTH)
    assert (proofs[LinkName.GUEST_DISK], proofs[LinkName.PUBLISHED]) == (Proof.SERVICE, Proof.SERVICE)


async def test_bytes_that_were_not_converted_are_proven_by_their_publisher(
    site: Site, client: Client, tmp_path: Path
) -> None:
    content = os.urandom(70_000)
    image = await uploaded(client, content)
    done = await client.images.download(image.id, tmp_path / "disk", trust=Trust(site.trust))
    assert (tmp_path / "disk").read_bytes() == content
    assert done.custody is not None and done.custody.links[-1].proof is Proof.BOTH
    assert done.digest == f"sha512:{hashlib.sha512(content).hexdigest()}"


async def test_where_the_bytes_come_from_is_a_link_where_it_was_proven(
    site: Site, client: Client, disks: Path, tmp_path: Path
) -> None:
    content = (disks / "disk.qcow2").read_bytes()
    image = await client.images.create("origin", disk_format="qcow2", container_format="bare")
    with web_source(disks) as url:
        expected = f"sha256:{hashlib.sha256(content).hexdigest()}"
        operation = await client.images.import_(image.id, uri=f"{url}/disk.qcow2", expected_digest=expected)
        await client.operations.wait(operation, timeout_s=DEADLINE_S)
    proven = await client.images.verify(image.id, trust=Trust(site.trust), allow_unsigned=True)
    (origin,) = [link for link in proven.links if link.name is LinkName.ORIGIN]
    assert (origin.detail, origin.proof) == (f"{url}/disk.qcow2, {expected}", Proof.SERVICE)


@pytest.mark.parametrize("trust", [Trust(), Trust(certificate_ids=(PUBLISHER,))], ids=["the site's", "by id"])
async def test_the_signer_can_be_asked_whom_to_trust(client: Client, tmp_path: Path, trust: Trust) -> None:
    image = await uploaded(client, os.urandom(70_000))
    done = await client.images.download(image.id, tmp_path / "disk", verify=Verify.CUSTODY, trust=trust)
    assert done.custody is not None and done.custody.is_signed


@pytest.mark.parametrize("is_converted", [True, False])
async def test_an_unsigned_image_is_proven_only_where_that_is_allowed(
    site: Site, client: Client, disks: Path, tmp_path: Path, is_converted: bool
) -> None:
    if is_converted:
        image = await converted(client, disks, tmp_path, is_signed=False)
    else:
        image = await uploaded(client, os.urandom(70_000), is_signed=False)
    with pytest.raises(ContentError) as refused:
        await client.images.download(image.id, tmp_path / "disk", trust=Trust(site.trust))
    assert refused.value.reason == "SIGNATURE_MISSING"
    assert not (tmp_path / "disk").exists()
    done = await client.images.download(image.id, tmp_path / "disk", trust=Trust(site.trust), allow_unsigned=True)
    assert done.custody is not None and not done.custody.is_signed


async def test_the_provenance_is_for_those_who_see_the_image(site: Site, client: Client) -> None:
    image = await uploaded(client, os.urandom(70_000))
    config = replace(client.config, project="other")
    async with tintype.client.connect(config) as other:
        with pytest.raises(tintype.client.NotFoundError):
            await other.images.provenance(image.id)
        await client.images.update(image.id, visibility="public")
        assert (await other.images.verify(image.id, trust=Trust(site.trust))).is_signed


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_a_byte_that_was_flipped_at_rest_leaves_no_file(
    site: Site, client: Client, disks: Path, tmp_path: Path, tintype_: Run
) -> None:
    image = await converted(client, disks, tmp_path)
    path = stored(site, image)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    (folder := tmp_path / "downloads").mkdir()
    with pytest.raises(IntegrityError):
        await client.images.download(image.id, folder / "disk", trust=Trust(site.trust))
    words = ("image", "download", image.id, "--file", str(folder / "disk"), "--trust-store", str(site.trust))
    done = await asyncio.to_thread(tintype_, *words, "--output", "json", code=ExitCode.CONTENT)
    assert reason(done) == "BLOB_DAMAGED"  # the service proves what it sends, before the client does
    assert list(folder.iterdir()) == []


async def is_refused(client: Client, image: Image, trust: Path, wanted: str, tmp_path: Path) -> None:
    (folder := tmp_path / "downloads").mkdir()
    with pytest.raises(ContentError) as refused:
        await client.images.download(image.id, folder / "disk", trust=Trust(trust))
    assert refused.value.reason == wanted
    assert list(folder.iterdir()) == []


async def test_a_publisher_that_is_not_trusted_here_leaves_no_file(site: Site, client: Client, tmp_path: Path) -> None:
    image = await uploaded(client, os.urandom(70_000))
    shutil.copytree(site.trust, tmp_path / "trust")
    (tmp_path / "trust" / "root.pem").write_bytes(root_authority("Another root").pem)
    await is_refused(client, image, tmp_path / "trust", "CERTIFICATE_UNTRUSTED", tmp_path)


async def test_a_service_that_is_not_trusted_here_leaves_no_file(site: Site, client: Client, tmp_path: Path) -> None:
    image = await uploaded(client, os.urandom(70_000))
    shutil.copytree(site.trust, tmp_path / "trust")
    shutil.rmtree(tmp_path / "trust" / "service-keys")
    await is_refused(client, image, tmp_path / "trust", "SERVICE_KEY_UNKNOWN", tmp_path)


@pytest.mark.parametrize(
    ("days", "wanted"), [(2, "CERTIFICATE_EXPIRED"), (-30, "CERTIFICATE_NOT_YET_VALID")], ids=["later", "earlier"]
)
async def test_certificates_are_judged_when_the_bytes_are_fetched(
    site: Site, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, wanted: str
) -> None:
    image = await uploaded(client, os.urandom(70_000))
    monkeypatch.setattr(custody, "now", lambda: datetime.now(UTC) + timedelta(days=days))
    await is_refused(client, image, site.trust, wanted, tmp_path)


async def test_another_certificate_than_the_named_one_leaves_no_file(
    client: Client, tmp_path: Path, site: Site
) -> None:
    image = await uploaded(client, os.urandom(70_000))
    (service_key,) = [path.stem for path in site.service_keys.glob("*.pem")][:1]
    with pytest.raises(ContentError) as refused:
        await client.images.download(image.id, tmp_path / "disk", trust=Trust(certificate_ids=(service_key,)))
    assert refused.value.reason == "CERTIFICATE_UNTRUSTED"


# --- the command line -------------------------------------------------------------------------------------------------


async def test_the_commands_prove_and_print_the_chain(
    site: Site, client: Client, disks: Path, tmp_path: Path, tintype_: Run
) -> None:
    image = await converted(client, disks, tmp_path)

    def walk() -> None:
        shown = tintype_("image", "provenance", image.id).stdout
        assert "nothing of this is proven" in shown and "CN=Publisher" in shown
        proven = tintype_("image", "provenance", image.id, "--verify").stdout
        assert "publisher and service" in proven and "qemu-img" not in proven
        tintype_("image", "download", image.id, "--file", "a", "--verify")
        tintype_("image", "download", image.id, "--file", "b", "--trusted-certificate", PUBLISHER)
        words = ("--trust-store", str(site.trust), "--output", "json")
        answer = json.loads(tintype_("image", "download", image.id, "--file", "c", *words).stdout)
        assert answer["custody"]["signer"]["certificate_id"] == PUBLISHER
        assert {(tmp_path / name).read_bytes() for name in "abc"} == {(disks / "disk.raw").read_bytes()}
        tintype_("image", "download", image.id, "--file", "-", "--verify", code=ExitCode.USAGE)

    await asyncio.to_thread(walk)


async def test_a_bundle_proves_a_local_file_without_any_service(
    site: Site, client: Client, disks: Path, tmp_path: Path, tintype_: Run
) -> None:
    image = await converted(client, disks, tmp_path)

    def walk() -> None:
        tintype_("image", "provenance", image.id, "--save", "bundle.json")
        (folder := tmp_path / "elsewhere").mkdir()
        shutil.copytree(site.trust, folder / "trust")
        shutil.copy(tmp_path / "bundle.json", folder)
        shutil.copy(disks / "disk.raw", folder / "disk")
        offline = ("image", "provenance", "--bundle", "bundle.json")
        assert "nothing of this is proven" in run_tintype(folder, *offline).stdout
        trusting = (*offline, "--trust-store", "trust", "--output", "json")
        answer = json.loads(run_tintype(folder, *trusting, "--file", "disk").stdout)
        assert answer["custody"]["image_id"] == image.id
        run_tintype(folder, "image", "provenance", image.id, *trusting[2:])
        foreign = ("image", "provenance", str(uuid.uuid4()), *trusting[2:])
        assert reason(run_tintype(folder, *foreign, code=ExitCode.CONTENT)) == "ATTESTATION_FOREIGN"
        with (folder / "disk").open("r+b") as file:
            file.write(b"\xff")
        changed = run_tintype(folder, *trusting, "--file", "disk", code=ExitCode.CONTENT)
        assert reason(changed) == "DIGEST_MISMATCH"
        run_tintype(folder, *offline, "--verify", code=ExitCode.USAGE)

    await asyncio.to_thread(walk)


# --- rotation ---------------------------------------------------------------------------------------------------------


async def test_what_an_older_key_attested_is_proven_after_a_rotation(
    site: Site, client: Client, tmp_path: Path
) -> None:
    before = await uploaded(client, os.urandom(70_000))
    transport = client.images._transport
    admin = signer_pb2_grpc.SignerAdminServiceStub(transport._signer_channel)
    metadata = (*transport.metadata, ("tintype-admin", "true"))
    await admin.RotateKey(signer_pb2.RotateKeyRequest(request_id=str(uuid.uuid4())), metadata=metadata)
    after = await uploaded(client, os.urandom(70_000))
    old, new = [(await client.images.verify(image.id, trust=Trust())).service_key_id for image in (before, after)]
    assert old != new
    with pytest.raises(ContentError) as refused:
        await client.images.verify(after.id, trust=Trust(site.trust))
    assert refused.value.reason == "SERVICE_KEY_UNKNOWN"
    copy_service_keys(site)
    for image in (before, after):
        await client.images.download(image.id, tmp_path / image.id, trust=Trust(site.trust))
