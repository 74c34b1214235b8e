"""Flows 1 and 2: a publisher signs and uploads; a compute service has its snapshot signed while it uploads."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import tintype.client
from tests.contract.key_managers import PIN, TokenHarness
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.roads import DEADLINE_S, downloaded, happened
from tests.e2e.stack import Stack, command_line, stored_files
from tintype.api.signer.v1 import signer_pb2
from tintype.client import (
    Client,
    ContentError,
    Image,
    LocalSigner,
    NotPermittedError,
    OperationFailedError,
    ServiceSigner,
    Status,
)
from tintype.domain.attributes import SIGNATURE_PROPERTIES
from tintype.domain.events import ImageAttested, ImagePublished, ImageVerified, Verdict
from tintype.testing.boot_files import run_program

DISK = os.urandom(3_000_000)
FORMATS = ("--disk-format", "raw", "--container-format", "bare")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a publisher's key, and one below it with the certificate."""
    folder = tmp_path_factory.mktemp("publisher")
    (folder / "certificates").mkdir()
    words = ("-newkey", "rsa:3072", "-nodes", "-keyout", "key.pem", "-out", "certificates/publisher-1.pem")
    run_program("openssl", "req", "-x509", *words, "-days", "2", "-subj", "/CN=Publisher", cwd=folder)
    (folder / "key.pem").chmod(0o600)
    (folder / "disk").write_bytes(DISK)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, publisher: Path) -> Iterator[Stack]:
    """A site that knows the publisher, and signs for every project, as a stack does by itself."""
    settings = {"TINTYPE_SIGNER__CERTIFICATE_DIR": str(publisher / "certificates")}
    stack = Stack(tmp_path_factory.mktemp("site"), {**ENVIRONMENT, **settings})
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture
async def client(site: Stack) -> AsyncIterator[Client]:
    async with tintype.client.connect(site.client_config) as connected:
        yield connected


@pytest.fixture
def tintype_at(site: Stack, publisher: Path) -> Run:
    """Runs `tintype WORDS…` beside the publisher's key."""
    return runner(site, publisher)


def runner(stack: Stack, directory: Path) -> Run:
    def run(*words: str, code: int = 0, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "tintype.cli", *words],
            env={**os.environ, "TINTYPE_CONFIG": str(stack.client_config), "PYTHONPATH": os.getcwd()},
            cwd=directory,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def answer(run: Run, *words: str, **more: Any) -> Any:
    return json.loads(run(*words, "--output", "json", **more).stdout)


async def pieces(data: bytes = DISK) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), 500_000):
        yield data[begin : begin + 500_000]


async def finished(client: Client, image: Image) -> Image:
    """The image once its newest operation has ended well."""
    found = await client.images.get(image.id)
    await client.operations.wait(found.operation_id, timeout_s=DEADLINE_S)
    found = await client.images.get(image.id)
    assert found.status is Status.ACTIVE
    return found


async def new_image(client: Client, **more: Any) -> Image:
    more = {"disk_format": "raw", "container_format": "bare", **more}
    return await client.images.create(name="signed", **more)


async def assert_nothing_is_visible(site: Stack, client: Client, image: Image) -> None:
    """The image is queued, gives no bytes, and leaves none: they are removed right behind the event of the failure."""
    found = await client.images.get(image.id)
    assert (found.status, found.size, found.stores) == (Status.QUEUED, None, ())
    with pytest.raises(tintype.client.PreconditionError):
        async for _ in client.images.read(image.id):
            pass
    async with asyncio.timeout(DEADLINE_S):
        while any(image.id in name for name in stored_files(site)):
            await asyncio.sleep(0.05)
    events = [event.type async for event in client.images.history(image.id)]
    assert "published" not in events and "verified" not in events


# --- flow 1 -----------------------------------------------------------------------------------------------------------


async def test_publishers_image_is_verified_before_it_is_visible(
    client: Client, tintype_at: Run, tmp_path: Path
) -> None:
    words = ("--key", "key.pem", "--certificate-id", "publisher-1", "--hash-method", "SHA-384")
    properties = answer(tintype_at, "image", "sign", "disk", *words)
    image = await new_image(client, properties=properties)
    await client.images.upload(image.id, pieces())
    image = await finished(client, image)
    assert image.verification is not None
    assert (image.verification.verdict, image.verification.certificate_id) == (Verdict.SIGNED, "publisher-1")
    positions = {type(event.payload): event.position async for event in client.images.history(image.id)}
    assert positions[ImageVerified] < positions[ImagePublished]
    assert await downloaded(client, image, tmp_path) == DISK


def test_publisher_signs_and_uploads_at_the_command_line(tintype_at: Run) -> None:
    words = tintype_at("image", "sign", "disk", "--key", "key.pem", "--certificate-id", "publisher-1", "--words")
    image = answer(tintype_at, "image", "upload", "disk", *FORMATS, *words.stdout.split())
    assert image["status"] == "active"
    assert image["verification"]["verdict"] == "signed"
    assert set(image["properties"]) == set(SIGNATURE_PROPERTIES)


async def test_other_bytes_than_were_signed_leave_nothing(site: Stack, client: Client, tintype_at: Run) -> None:
    properties = answer(tintype_at, "image", "sign", "disk", "--key", "key.pem", "--certificate-id", "publisher-1")
    image = await new_image(client, properties=properties)
    await client.images.upload(image.id, pieces(DISK[:-1] + b"?"))
    with pytest.raises(OperationFailedError) as failed:
        await finished(client, image)
    assert failed.value.reason == "SIGNATURE_INVALID"
    await assert_nothing_is_visible(site, client, image)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"img_signature": "AAAA"}, "SIGNATURE_MALFORMED"),
        ({"img_signature_certificate_uuid": "nobody"}, "CERTIFICATE_NOT_FOUND"),
    ],
)
def test_refused_signature_is_told_at_the_command_line(
    site: Stack, tintype_at: Run, change: dict[str, str], reason: str
) -> None:
    words = ("--key", "key.pem", "--certificate-id", "publisher-1")
    properties = {**answer(tintype_at, "image", "sign", "disk", *words), **change}
    pairs = [word for name, value in properties.items() for word in ("--property", f"{name}={value}")]
    done = tintype_at("image", "upload", "disk", *FORMATS, *pairs, "-o", "json", code=5)
    assert reason in done.stderr


# --- flow 2 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_method", ["SHA-224", "SHA-256"])
async def test_snapshot_is_signed_by_the_service_while_it_is_uploaded(
    client: Client, tmp_path: Path, hash_method: str
) -> None:
    (key,) = [key for key in await client.signer.keys() if key.active]
    image = await new_image(client)
    await client.images.upload(image.id, pieces(), sign=ServiceSigner(hash_method))
    image = await finished(client, image)
    assert image.properties["img_signature_certificate_uuid"] == key.id
    assert image.properties["img_signature_hash_method"] == hash_method
    assert image.verification is not None
    assert (image.verification.verdict, image.verification.certificate_id) == (Verdict.SIGNED, key.id)
    assert await downloaded(client, image, tmp_path) == DISK


async def test_staged_image_is_signed_converted_and_verified(client: Client, publisher: Path, disks: Path) -> None:
    image = await new_image(client, disk_format="qcow2")
    signer = LocalSigner(publisher / "key.pem", "publisher-1", hash_method="SHA-512")
    await client.images.upload(image.id, disks / "disk.qcow2", stage=True, sign=signer)
    operation = await client.images.import_(image.id)
    await client.operations.wait(operation, timeout_s=DEADLINE_S)
    found = await client.images.get(image.id)
    assert (found.status, found.disk_format) == (Status.ACTIVE, "raw")
    assert found.verification is not None
    assert (found.verification.verdict, found.verification.certificate_id) == (Verdict.SIGNED, "publisher-1")
    assert (await happened(client, found, ImageVerified)).verification.digest.algorithm == "sha512"


async def test_compressed_staged_image_is_signed_as_it_is_sent(client: Client, disks: Path) -> None:
    image = await new_image(client, disk_format="qcow2")
    sent = run_program("zstd", "-q", "-c", stdin=(disks / "disk.qcow2").read_bytes())
    await client.images.upload(image.id, pieces(sent), stage=True, sign=ServiceSigner("SHA-224"))
    await client.operations.wait(await client.images.import_(image.id), timeout_s=DEADLINE_S)
    found = await client.images.get(image.id)
    assert found.status is Status.ACTIVE
    assert found.verification is not None and found.verification.verdict is Verdict.SIGNED


def test_snapshot_is_signed_at_the_command_line(tintype_at: Run) -> None:
    keys = {key["id"] for key in answer(tintype_at, "key", "list")}
    for source in ("disk", "-"):
        image = answer(tintype_at, "image", "upload", source, *FORMATS, "--sign", stdin=DISK)
        assert (image["status"], image["verification"]["verdict"]) == ("active", "signed")
        assert image["verification"]["certificate_id"] in keys
    words = ("--sign-key", "key.pem", "--sign-certificate", "publisher-1")
    image = answer(tintype_at, "image", "upload", "disk", *FORMATS, *words)
    assert (image["status"], image["verification"]["certificate_id"]) == ("active", "publisher-1")
    image = answer(tintype_at, "image", "create-via-import", *FORMATS, "--file", "disk", "--sign", "--wait")
    assert (image["status"], image["verification"]["verdict"]) == ("active", "signed")


async def test_private_key_of_another_certificate_leaves_nothing(site: Stack, client: Client, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "other.key").touch(mode=0o600)
    (tmp_path / "other.key").write_bytes(pem_of(key))
    image = await new_image(client)
    await client.images.upload(image.id, pieces(), sign=LocalSigner(tmp_path / "other.key", "publisher-1"))
    with pytest.raises(OperationFailedError) as failed:
        await finished(client, image)
    assert failed.value.reason in ("KEY_TYPE_MISMATCH", "CERTIFICATE_INVALID")
    await assert_nothing_is_visible(site, client, image)


async def test_upload_that_broke_off_after_it_was_signed_can_be_begun_again(site: Stack, client: Client) -> None:
    image = await new_image(client)
    signed = await client.signer.sign_digest("sha256:" + "00" * 32)
    await client.images.update(image.id, properties=dict(signed.properties))  # and then the client died
    await client.images.upload(image.id, pieces())
    with pytest.raises(OperationFailedError):
        await finished(client, image)
    await assert_nothing_is_visible(site, client, image)
    await client.images.upload(image.id, pieces(), sign=ServiceSigner())
    await finished(client, image)


async def test_signature_of_an_active_image_cannot_change(client: Client) -> None:
    image = await new_image(client)
    await client.images.upload(image.id, pieces(), sign=ServiceSigner())
    await finished(client, image)
    with pytest.raises(tintype.client.PreconditionError) as refused:
        await client.images.update(image.id, properties={"img_signature": "AAAA"})
    assert refused.value.reason == "SIGNATURE_PROPERTIES_FIXED"


# --- rotation ---------------------------------------------------------------------------------------------------------


async def test_new_key_signs_after_a_rotation_and_the_old_one_stays_verifiable(
    site: Stack, client: Client, tintype_at: Run
) -> None:
    old_image = await new_image(client)
    await client.images.upload(old_image.id, pieces(), sign=ServiceSigner())
    old_image = await finished(client, old_image)
    old_id = str(old_image.properties["img_signature_certificate_uuid"])
    assert (await happened(client, old_image, ImageAttested)).key_id == old_id

    new_id = answer(tintype_at, "key", "rotate")["id"]
    image = await new_image(client)
    await client.images.upload(image.id, pieces(), sign=ServiceSigner())
    image = await finished(client, image)
    assert image.properties["img_signature_certificate_uuid"] == new_id != old_id
    assert (await happened(client, image, ImageAttested)).key_id == new_id

    # An operator removes the old private key: what it signed is still verified.
    (site.data / "keys" / f"{old_id}.key").unlink()
    again = await new_image(client, properties=dict(old_image.properties))
    await client.images.upload(again.id, pieces())
    again = await finished(client, again)
    assert again.verification is not None and again.verification.certificate_id == old_id
    request = signer_pb2.VerifyDigestRequest(
        digest=f"sha256:{old_image.digests['sha256']}",
        properties={name: str(value) for name, value in old_image.properties.items()},
    )
    verified = await client._transport.call(client._transport.signer.VerifyDigest, request)
    assert verified.verification.certificate_id == old_id


def test_exported_certificates_are_those_of_all_keys(tintype_at: Run, tmp_path: Path) -> None:
    tintype_at("key", "export", str(tmp_path / "trust"))
    found = {path.stem: path.read_text() for path in (tmp_path / "trust" / "service-keys").iterdir()}
    assert found == {key["id"]: key["certificate"] for key in answer(tintype_at, "key", "list")}


async def test_image_waits_while_the_keys_are_away_and_arrives_when_they_are_back(site: Stack, client: Client) -> None:
    image = await new_image(client)
    keys, away = site.data / "keys", site.data / "keys-away"
    keys.rename(away)
    try:
        await client.images.upload(image.id, pieces())
        log = site.data / "logs" / "signer.log"
        async with asyncio.timeout(DEADLINE_S):
            while image.id not in "".join(line for line in log.read_text().splitlines() if "key manager" in line):
                await asyncio.sleep(0.05)
        assert (await client.images.get(image.id)).status is Status.IMPORTING
    finally:
        away.rename(keys)
    await finished(client, image)


# --- what must not be seen --------------------------------------------------------------------------------------------


async def test_no_private_key_is_in_logs_events_files_or_arguments(
    site: Stack, client: Client, publisher: Path, tintype_at: Run
) -> None:
    image = await new_image(client)
    await client.images.upload(image.id, pieces(), sign=LocalSigner(publisher / "key.pem", "publisher-1"))
    await client.images.delete((await finished(client, image)).id)
    tintype_at("key", "rotate")
    tintype_at("image", "upload", "disk", *FORMATS, "--sign")
    keys = [*(site.data / "keys").glob("*.key"), publisher / "key.pem"]
    assert len(keys) >= 3
    secrets = {secret for path in keys for secret in secrets_of(path)}
    seen = b"".join(path.read_bytes() for path in kept_files(site))
    for pid in site.pids().values():
        seen += b"\0".join(word.encode() for word in command_line(pid))
    # What is looked through is what would show it: the keys' ids are everywhere.
    newest = (await client.signer.keys())[0]
    assert newest.id.encode() in seen and b"digest was signed" in seen and b"services.signer" in seen
    assert [secret[:20] for secret in secrets if secret in seen] == []


def kept_files(stack: Stack) -> list[Path]:
    """All that a stack writes, its keys left out: logs, the event log, the projection, settings, blobs."""
    keys = stack.data / "keys"
    return [path for path in stack.directory.rglob("*") if path.is_file() and not path.is_relative_to(keys)]


def secrets_of(path: Path) -> set[bytes]:
    """A private key in all forms in which it could slip out."""
    pem = path.read_bytes()
    lines = {line for line in pem.splitlines() if not line.startswith(b"-----") and len(line) >= 24}
    assert lines
    key = serialization.load_pem_private_key(pem, None)
    match key:
        case ec.EllipticCurvePrivateKey():
            numbers = [key.private_numbers().private_value]
        case rsa.RSAPrivateKey():
            private = key.private_numbers()
            numbers = [private.d, private.p, private.q]
        case _:
            raise AssertionError(path)
    raw = {number.to_bytes((number.bit_length() + 7) // 8) for number in numbers}
    texts = {each.hex() for each in raw} | {each.hex().upper() for each in raw} | {str(number) for number in numbers}
    return lines | raw | {text.encode() for text in texts}


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


# --- keys in a token --------------------------------------------------------------------------------------------------


@pytest.fixture
def token_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A site whose keys lie in a PKCS #11 token, and that signs for one project."""
    harness = TokenHarness(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", str(harness.configuration))
    harness.initialize()
    settings = {
        "TINTYPE_SIGNER__PKCS11_MODULE": str(harness.token.module),
        "TINTYPE_SIGNER__PKCS11_TOKEN": harness.token.label,
        "TINTYPE_SIGNER__PKCS11_PIN_FILE": str(harness.token.pin_file),
        "TINTYPE_SIGNER__SIGN_FOR": "acme",
    }
    (tmp_path / "site").mkdir()
    stack = Stack(tmp_path / "site", {**ENVIRONMENT, **settings})
    stack.start()
    yield stack
    assert stack.stop() == 0


async def test_keys_in_a_token_sign_for_the_projects_that_may(token_site: Stack, tmp_path: Path) -> None:
    async with tintype.client.connect(token_site.client_config, project="acme") as client:
        image = await new_image(client)
        await client.images.upload(image.id, pieces(), sign=ServiceSigner())
        image = await finished(client, image)
        (key,) = await client.signer.keys()
        assert image.properties["img_signature_certificate_uuid"] == key.id
        assert (await happened(client, image, ImageAttested)).key_id == key.id
    assert not list(token_site.data.rglob("*.key"))
    seen = b"".join(path.read_bytes() for path in kept_files(token_site))
    for pid in token_site.pids().values():
        seen += "\0".join(command_line(pid)).encode() + Path(f"/proc/{pid}/environ").read_bytes()
    assert str(tmp_path / "pin").encode() in seen  # where the PIN is may be known
    assert PIN.encode() not in seen

    async with tintype.client.connect(token_site.client_config, project="other") as client:
        image = await new_image(client)
        with pytest.raises(NotPermittedError) as refused:
            await client.images.upload(image.id, pieces(), sign=ServiceSigner())
        assert refused.value.reason == "SIGNING_NOT_PERMITTED"
        await assert_nothing_is_visible(token_site, client, image)


async def test_unknown_certificate_is_told(client: Client) -> None:
    with pytest.raises(ContentError) as refused:
        await client.signer.certificate("nobody")
    assert refused.value.reason == "CERTIFICATE_NOT_FOUND"
