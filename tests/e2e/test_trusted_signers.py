"""A site with trusted roots and rules for each project: who may sign, and what the log and today's rules say of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import tintype.client
from tests.e2e.commands import run_tintype
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.roads import DEADLINE_S, happened
from tests.e2e.stack import Stack
from tintype.client import Client, Image, OperationFailedError, Status
from tintype.domain.events import ImageStepFailed, ImageVerified, Verdict
from tintype.testing.boot_files import run_program

DISK = os.urandom(1_000_000)
CONTENT_REFUSED = 5


class Publishers:
    """Authorities and signers, made by openssl in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("roots", "certificates", "elsewhere"):
            (folder / name).mkdir()
        (folder / "disk").write_bytes(DISK)
        (folder / "authority.ext").write_text(
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n"
        )
        (folder / "signer.ext").write_text("keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n")
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key",
                     "-out", "roots/root.pem", "-days", "9", "-subj", "/CN=Root")  # fmt: skip
        self.issue("middle", "secp384r1", "roots/root.pem", "root.key", "authority.ext")
        self.issue("chained", "secp384r1", "middle.pem", "middle.key", "signer.ext")
        self.issue("binary", "sect571r1", "middle.pem", "middle.key", "signer.ext")
        for name in ("chained", "binary"):
            chain = (folder / f"{name}.pem").read_bytes() + (folder / "middle.pem").read_bytes()
            (folder / "certificates" / f"{name}.pem").write_bytes(chain)
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-days", "9",
                     "-keyout", "foreign.key", "-out", "certificates/foreign.pem", "-subj", "/CN=Foreign")  # fmt: skip

    def openssl(self, *words: str) -> None:
        """The program, in the folder."""
        run_program("openssl", *words, cwd=self.folder)

    def issue(self, name: str, curve: str, issuer: str, issuer_key: str, extensions: str) -> None:
        """A key on that curve, and its certificate."""
        self.openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", f"{name}.key")
        self.openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", issuer, "-CAkey", issuer_key, "-CAcreateserial",
                     "-extfile", extensions, "-days", "8", "-out", f"{name}.pem")  # fmt: skip

    def signed_by(self, name: str, key_type: str) -> Mapping[str, str]:
        """The properties of the disk."""
        self.openssl("dgst", "-sha256", "-sign", f"{name}.key", "-out", f"{name}.sig", "disk")
        return {
            "img_signature": base64.b64encode((self.folder / f"{name}.sig").read_bytes()).decode(),
            "img_signature_hash_method": "SHA-256",
            "img_signature_key_type": key_type,
            "img_signature_certificate_uuid": name,
        }


@pytest.fixture(scope="module")
def publishers(tmp_path_factory: pytest.TempPathFactory) -> Publishers:
    return Publishers(tmp_path_factory.mktemp("publishers"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, publishers: Publishers) -> Iterator[Stack]:
    """A site with roots, where the project finance takes signed images only."""
    settings = {
        "TINTYPE_SIGNER__CERTIFICATE_DIR": str(publishers.folder / "certificates"),
        "TINTYPE_SIGNER__TRUSTED_ROOTS_DIR": str(publishers.folder / "roots"),
        "TINTYPE_SIGNER__PROJECTS__FINANCE__REQUIRE_SIGNATURE": "true",
    }
    stack = Stack(tmp_path_factory.mktemp("site"), {**ENVIRONMENT, **settings})
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture
async def client(site: Stack) -> AsyncIterator[Client]:
    async with tintype.client.connect(site.client_config) as connected:
        yield connected


async def uploaded(client: Client, properties: Mapping[str, Any]) -> Image:
    """The image that becomes of the disk; raises where it is refused."""
    image = await client.images.create("image", disk_format="raw", container_format="bare", properties=properties)
    upload = await client.images.upload(image.id, pieces())
    await client.operations.wait(upload, timeout_s=DEADLINE_S)
    return await client.images.get(image.id)


async def pieces() -> AsyncIterator[bytes]:
    yield DISK


def command(site: Stack, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`tintype WORDS…`, as JSON."""
    return run_tintype(site.directory, *words, "--output", "json", config=site.client_config, code=code)


@pytest.mark.parametrize(("signer", "key_type"), [("chained", "ECC_SECP384R1"), ("binary", "ECC_SECT571R1")])
async def test_a_signer_that_leads_to_a_root_is_trusted_and_the_chain_is_in_the_log(
    client: Client, site: Stack, publishers: Publishers, signer: str, key_type: str
) -> None:
    image = await uploaded(client, publishers.signed_by(signer, key_type))
    assert image.status is Status.ACTIVE
    event: ImageVerified = await happened(client, image, ImageVerified)
    assert event.verification.verdict is Verdict.SIGNED
    assert event.evidence is not None
    files = (f"{signer}.pem", "middle.pem", "roots/root.pem")
    chain = [x509.load_pem_x509_certificate((publishers.folder / name).read_bytes()) for name in files]
    assert event.evidence.certificates == tuple(each.public_bytes(Encoding.DER) for each in chain)
    verdict = json.loads(command(site, "policy", "test", image.id).stdout)
    assert (verdict["allowed"], verdict["policy"]) == (True, event.evidence.policy)


async def test_a_signer_that_leads_nowhere_is_refused_with_what_that_is_based_on(
    client: Client, publishers: Publishers
) -> None:
    with pytest.raises(OperationFailedError) as caught:
        await uploaded(client, publishers.signed_by("foreign", "ECC_SECP384R1"))
    assert caught.value.reason == "CERTIFICATE_UNTRUSTED"
    assert caught.value.evidence["certificate_subject"] == "CN=Foreign"
    image = await client.images.get(caught.value.operation.image_id)
    assert image.status is Status.QUEUED
    failed: ImageStepFailed = await happened(client, image, ImageStepFailed)
    assert failed.failure.evidence == caught.value.evidence


async def test_a_project_may_take_signed_images_only(site: Stack, publishers: Publishers) -> None:
    async with tintype.client.connect(site.client_config, project="finance") as finance:
        with pytest.raises(OperationFailedError) as caught:
            await uploaded(finance, {})
        assert caught.value.reason == "SIGNATURE_MISSING"
        image = await uploaded(finance, publishers.signed_by("chained", "ECC_SECP384R1"))
        assert image.status is Status.ACTIVE


async def test_rules_that_change_are_asked_about_images_of_the_past(
    client: Client, site: Stack, publishers: Publishers
) -> None:
    signed = await uploaded(client, publishers.signed_by("chained", "ECC_SECP384R1"))
    plain = await uploaded(client, {})
    everything = [json.loads(line) for line in command(site, "policy", "replay").stdout.splitlines()]
    found = {verdict["image_id"]: verdict["allowed"] for verdict in everything}
    assert {signed.id, plain.id} <= found.keys()
    assert all(found.values())

    # The authority takes the signer back; no restart.
    folder = publishers.folder
    (folder / "index").touch()
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=x\n[x]\ndatabase=index\ncertificate=middle.pem\nprivate_key=middle.key\n"
        "default_md=sha256\ndefault_crl_days=5\n"
    )
    publishers.openssl("ca", "-config", "ca.conf", "-revoke", "chained.pem")
    publishers.openssl("ca", "-config", "ca.conf", "-gencrl", "-out", "elsewhere/middle.crl")
    (folder / "elsewhere" / "middle.crl").rename(folder / "roots" / "middle.crl")
    try:
        refused = command(site, "policy", "test", signed.id, code=CONTENT_REFUSED)
        error = json.loads(refused.stderr)["error"]
        assert error["reason"] == "CERTIFICATE_REVOKED"
        assert error["evidence"]["certificate_subject"] == "CN=chained"
        again = command(site, "policy", "replay", "--project", "default", code=CONTENT_REFUSED)
        verdicts = {verdict["image_id"]: verdict for verdict in map(json.loads, again.stdout.splitlines())}
        assert verdicts[signed.id]["failure"]["reason"] == "CERTIFICATE_REVOKED"
        assert verdicts[plain.id]["allowed"]
        assert {verdict["project"] for verdict in verdicts.values()} == {"default"}
        with pytest.raises(OperationFailedError) as caught:
            await uploaded(client, publishers.signed_by("chained", "ECC_SECP384R1"))
        assert caught.value.reason == "CERTIFICATE_REVOKED"
        assert (await client.images.get(signed.id)).status is Status.ACTIVE  # what was let in stays
    finally:
        (folder / "roots" / "middle.crl").unlink()
    assert json.loads(command(site, "policy", "test", signed.id).stdout)["allowed"]
