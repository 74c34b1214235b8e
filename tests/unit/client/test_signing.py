"""Signing an upload in the pass that sends it: by the service, and by a private key at hand."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.unit.client.fake_services import FakeServices
from tintype.api.catalog.v1 import catalog_pb2
from tintype.api.importer.v1 import importer_pb2
from tintype.api.signer.v1 import signer_pb2
from tintype.client import (
    Client,
    ClientConfig,
    ConfigurationError,
    ContentError,
    InvalidRequestError,
    LocalSigner,
    NotPermittedError,
    ServiceSigner,
    SigningKeyError,
    connect,
)
from tintype.client.hashed_source import HashedSource
from tintype.client.sources import open_source
from tintype.domain import errors

DATA = random.Random(3).randbytes(5_000_000)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return private_file(tmp_path / "publisher.key", pem_of(KEY))


def private_file(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def pem_of(key: Any, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pem


async def pieces() -> AsyncIterator[bytes]:
    for begin in range(0, len(DATA), 300_001):
        yield DATA[begin : begin + 300_001]


async def properties_of(client: Client, image_id: str) -> dict[str, str]:
    return {name: str(value) for name, value in (await client.images.get(image_id)).properties.items()}


def verify_service(services: FakeServices, properties: dict[str, str], certificate: str) -> None:
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    name = properties["img_signature_hash_method"].lower().replace("-", "")
    algorithm = {"sha224": hashes.SHA224(), "sha256": hashes.SHA256()}[name]
    digest = hashlib.new(name, DATA).digest()
    public.verify(base64.b64decode(properties["img_signature"]), digest, ec.ECDSA(Prehashed(algorithm)))


@pytest.mark.parametrize("stage", [False, True])
@pytest.mark.parametrize("hash_method", ["SHA-224", "SHA-256"])
async def test_service_signs_what_was_sent_before_the_upload_is_finished(
    services: FakeServices, client: Client, tmp_path: Path, stage: bool, hash_method: str
) -> None:
    image = services.add_image("snapshot")
    (tmp_path / "disk").write_bytes(DATA)
    upload = await client.images.upload(image.id, tmp_path / "disk", stage=stage, sign=ServiceSigner(hash_method))
    assert upload.complete
    properties = await properties_of(client, image.id)
    assert properties["img_signature_certificate_uuid"] == "service-key-1"
    verify_service(services, properties, await client.signer.certificate("service-key-1"))
    kinds = [type(request).__name__ for request in services.requests]
    assert kinds[:3] == ["StartUploadRequest", "SignDigestRequest", "UpdateImageRequest"]
    (started,) = [each for each in services.requests if isinstance(each, importer_pb2.StartUploadRequest)]
    assert started.hash_algorithm == hash_method.lower().replace("-", "")


@pytest.mark.parametrize("kind", ["path", "pipe", "iterator"])
async def test_every_kind_of_source_is_signed_in_one_pass(
    services: FakeServices, client: Client, tmp_path: Path, key_file: Path, kind: str
) -> None:
    image = services.add_image("image")
    (tmp_path / "disk").write_bytes(DATA)
    signer = LocalSigner(key_file, "publisher-1", hash_method="SHA-384")
    if kind == "pipe":
        with subprocess.Popen(["cat", tmp_path / "disk"], stdout=subprocess.PIPE, bufsize=0) as producer:
            assert producer.stdout is not None
            await client.images.upload(image.id, producer.stdout, sign=signer)  # type: ignore[arg-type]
    else:
        await client.images.upload(image.id, tmp_path / "disk" if kind == "path" else pieces(), sign=signer)
    properties = await properties_of(client, image.id)
    assert properties["img_signature_key_type"] == "RSA-PSS"
    assert properties["img_signature_hash_method"] == "SHA-384"
    scheme = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.MAX_LENGTH)
    KEY.public_key().verify(base64.b64decode(properties["img_signature"]), DATA, scheme, hashes.SHA384())


async def test_broken_streams_hash_each_byte_once_and_sign_once(
    services: FakeServices, client: Client, tmp_path: Path
) -> None:
    image = services.add_image("image")
    (tmp_path / "disk").write_bytes(DATA)
    services.faults.break_writes_at = [1_100_000, 3_200_000]
    services.faults.lost_bytes = 700_000
    services.faults.lose_last_answer = True
    await client.images.upload(image.id, tmp_path / "disk", sign=ServiceSigner())
    verify_service(services, await properties_of(client, image.id), await client.signer.certificate("service-key-1"))
    assert sum(isinstance(each, signer_pb2.SignDigestRequest) for each in services.requests) == 1
    assert sum(isinstance(each, catalog_pb2.UpdateImageRequest) for each in services.requests) == 1


async def test_hash_does_not_depend_on_how_the_bytes_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(DATA)
    async with open_source(tmp_path / "disk") as source:
        hashed = HashedSource(source, "sha256")
        for offset in (0, 0, 1_000_000, 500_000, 1_500_000, 2_500_000, 10, 3_000_000, 4_000_000, 4_900_000):
            await hashed.read(offset)
        assert await hashed.read(len(DATA)) == b""
        assert (await hashed.digest()).hex == hashlib.sha256(DATA).hexdigest()


async def test_bytes_that_were_never_read_are_not_signed(services: FakeServices, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(DATA)
    async with open_source(tmp_path / "disk") as source:
        hashed = HashedSource(source, "sha256")
        with pytest.raises(Exception, match="hashed") as caught:
            await hashed.read(1)
    assert type(caught.value).__name__ == "UploadInterruptedError"


async def test_upload_that_is_not_signed_is_given_up(services: FakeServices, client: Client) -> None:
    image = services.add_image("image")
    services.faults.signs_not = True
    with pytest.raises(NotPermittedError) as refused:
        await client.images.upload(image.id, pieces(), sign=ServiceSigner())
    assert refused.value.reason == "SIGNING_NOT_PERMITTED"
    assert "sign_for" in refused.value.hint
    assert services.cancelled == ["upload-0"]
    assert not services.uploads["upload-0"].is_complete
    assert await properties_of(client, image.id) == {}


async def test_refused_upload_can_be_begun_again_with_another_signature(
    services: FakeServices, client: Client, key_file: Path
) -> None:
    image = services.add_image("image")
    services.faults.refuse_write = errors.SizeMismatchError("no")
    with pytest.raises(ContentError):
        await client.images.upload(image.id, pieces(), sign=LocalSigner(key_file, "publisher-1"))
    services.faults.refuse_write = None
    await client.images.upload(image.id, pieces(), sign=ServiceSigner())
    assert (await properties_of(client, image.id))["img_signature_certificate_uuid"] == "service-key-1"


@pytest.mark.parametrize(
    "signer",
    [
        ServiceSigner("MD5"),
        ServiceSigner(""),
        ServiceSigner("SHA-384"),
        ServiceSigner("SHA-512"),
        LocalSigner("k", "c", hash_method="SHA1"),
    ],
)
async def test_hash_that_is_not_signed_is_refused_before_anything_is_sent(
    services: FakeServices, client: Client, signer: ServiceSigner | LocalSigner
) -> None:
    with pytest.raises(InvalidRequestError):
        await client.images.upload(services.add_image("image").id, pieces(), sign=signer)
    assert services.requests == []


def unreadable(path: Path) -> LocalSigner:
    path.chmod(0o644)
    return LocalSigner(path, "c")


def garbage(path: Path) -> LocalSigner:
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    return LocalSigner(path, "c")


def weak(path: Path) -> LocalSigner:
    path.write_bytes(pem_of(rsa.generate_private_key(public_exponent=65537, key_size=1024)))
    return LocalSigner(path, "c")


def encrypted(path: Path) -> LocalSigner:
    path.write_bytes(pem_of(KEY, b"open sesame"))
    return LocalSigner(path, "c")


def wrong_passphrase(path: Path) -> LocalSigner:
    path.write_bytes(pem_of(KEY, b"open sesame"))
    return LocalSigner(path, "c", private_file(path.with_name("passphrase"), b"close sesame\n"))


def readable_passphrase(path: Path) -> LocalSigner:
    path.write_bytes(pem_of(KEY, b"open sesame"))
    private_file(path.with_name("passphrase"), b"open sesame\n").chmod(0o640)
    return LocalSigner(path, "c", path.with_name("passphrase"))


def folder(path: Path) -> LocalSigner:
    path.unlink()
    path.mkdir(mode=0o700)
    return LocalSigner(path, "c")


def fifo(path: Path) -> LocalSigner:
    path.unlink()
    os.mkfifo(path, 0o600)
    return LocalSigner(path, "c")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unreadable, "KEY_PERMISSIONS"),
        (garbage, "KEY_UNREADABLE"),
        (weak, "KEY_UNREADABLE"),
        (encrypted, "KEY_PASSPHRASE"),
        (wrong_passphrase, "KEY_PASSPHRASE"),
        (readable_passphrase, "KEY_PERMISSIONS"),
        (folder, "KEY_PERMISSIONS"),
        (fifo, "KEY_PERMISSIONS"),
    ],
)
async def test_key_that_must_not_be_used_is_refused_before_anything_is_sent(
    services: FakeServices, client: Client, key_file: Path, spoil: Callable[[Path], LocalSigner], reason: str
) -> None:
    with pytest.raises(SigningKeyError) as refused:
        await client.images.upload(services.add_image("image").id, pieces(), sign=spoil(key_file))
    assert refused.value.reason == reason
    assert refused.value.hint
    assert "sesame" not in str(refused.value) and "c2VjcmV0" not in str(refused.value)
    assert services.requests == []


async def test_passphrase_comes_from_a_private_file_or_is_asked_for(
    services: FakeServices, client: Client, key_file: Path, tmp_path: Path
) -> None:
    key_file.write_bytes(pem_of(KEY, b"open sesame"))
    passphrase = private_file(tmp_path / "passphrase", b"open sesame\n")
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return "open sesame"

    for signer in (LocalSigner(key_file, "c", passphrase), LocalSigner(key_file, "c", ask_passphrase=ask)):
        image = services.add_image("image")
        await client.images.upload(image.id, pieces(), sign=signer)
        assert (await properties_of(client, image.id))["img_signature"]
    assert asked == [str(key_file)]


async def test_nobody_is_asked_for_the_passphrase_of_a_plain_key(
    client: Client, services: FakeServices, key_file: Path
) -> None:
    def ask(what: str) -> str:
        raise AssertionError(what)

    await client.images.upload(
        services.add_image("i").id, pieces(), sign=LocalSigner(key_file, "c", ask_passphrase=ask)
    )


@pytest.mark.parametrize(
    ("key", "key_type"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ECC_SECP256R1"),
        (ec.generate_private_key(ec.SECP384R1()), "ECC_SECP384R1"),
        (ec.generate_private_key(ec.SECP521R1()), "ECC_SECP521R1"),
        (ed25519.Ed25519PrivateKey.generate(), "ED25519"),
    ],
)
async def test_key_type_is_told_as_glance_names_it(
    client: Client, services: FakeServices, tmp_path: Path, key: Any, key_type: str
) -> None:
    image = services.add_image("image")
    signer = LocalSigner(private_file(tmp_path / "key", pem_of(key)), "publisher-1")
    await client.images.upload(image.id, pieces(), sign=signer)
    assert (await properties_of(client, image.id))["img_signature_key_type"] == key_type


async def test_keys_are_listed_and_rotated_by_the_request(client: Client, services: FakeServices) -> None:
    assert [(key.id, key.active) for key in await client.signer.keys()] == [("service-key-1", True)]
    made = await client.signer.rotate(request_id="one")
    assert await client.signer.rotate(request_id="one") == made
    assert [(key.id, key.active) for key in await client.signer.keys()] == [(made.id, True), ("service-key-1", False)]
    assert made.certificate.startswith("-----BEGIN CERTIFICATE-----")
    assert (await client.signer.certificate(made.id)) == made.certificate


async def test_signed_digest_has_the_properties_and_the_certificate(client: Client, services: FakeServices) -> None:
    signed = await client.signer.sign_digest(f"sha256:{hashlib.sha256(DATA).hexdigest()}")
    verify_service(services, dict(signed.properties), signed.certificate)
    with pytest.raises(InvalidRequestError):
        await client.signer.sign_digest("sha256:xyz")


async def test_unknown_certificate_has_its_reason(client: Client) -> None:
    with pytest.raises(ContentError) as refused:
        await client.signer.certificate("nobody")
    assert refused.value.reason == "CERTIFICATE_NOT_FOUND"


async def test_configuration_without_a_signer_says_so(services: FakeServices) -> None:
    async with connect(ClientConfig(catalog=services.target, importer=services.target)) as client:
        with pytest.raises(ConfigurationError, match=r"client\.signer"):
            await client.signer.keys()
