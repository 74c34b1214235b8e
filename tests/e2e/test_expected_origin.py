"""An operator imports a publisher's image by its signed list of checksums, with the command line."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.openpgp import GnuPG, gnupg
from tests.e2e.commands import Run, runner
from tests.e2e.roads import happened
from tests.e2e.stack import Stack
from tests.e2e.web_source import web_source
from tintype.cli.exit_codes import ExitCode
from tintype.client import Client, OperationFailedError, Origin, SignedChecksums, Status
from tintype.client.models import ImageStaged

DEADLINE_S = 60


@pytest.fixture(scope="module")
def gpg() -> Iterator[GnuPG]:
    with gnupg() as made:
        made.make_key("publisher")
        made.make_key("stranger")
        yield made


@pytest.fixture
def published(disks: Path, tmp_path: Path, gpg: GnuPG) -> Iterator[str]:
    """What a publisher's web server has: a disk, the list of checksums in both forms, and its signature."""
    digest = hashlib.sha512((disks / "disk.qcow2").read_bytes()).hexdigest()
    (tmp_path / "disk.qcow2").write_bytes((disks / "disk.qcow2").read_bytes())
    (tmp_path / "other.qcow2").write_bytes(b"not what is listed")
    listing = f"{digest}  disk.qcow2\n{digest}  other.qcow2\n".encode()
    (tmp_path / "SHA512SUMS").write_bytes(listing)
    (tmp_path / "SHA512SUMS.sign").write_bytes(gpg.sign("publisher", listing))
    (tmp_path / "CHECKSUM").write_bytes(gpg.clearsign("publisher", listing))
    for name in ("publisher", "stranger"):
        (tmp_path / f"{name}.asc").write_bytes(gpg.public(name))
    with web_source(tmp_path) as url:
        yield url


@pytest.fixture
def tintype(stack: Stack, tmp_path: Path) -> Run:
    """Runs `tintype WORDS…` beside the publishers' keys."""
    return runner(stack, tmp_path)


def import_(run: Run, url: str, file: str, *origin: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = ["image", "create-via-import", "listed", "--disk-format", "qcow2", "--container-format", "bare"]
    return run(*command, "--uri", f"{url}/{file}", "--wait", "--output", "json", *origin, code=code)


async def test_a_listed_image_is_imported_and_its_history_says_whose_it_is(
    tintype: Run, client: Client, published: str, gpg: GnuPG
) -> None:
    origin = ("--checksums-url", f"{published}/SHA512SUMS", "--publisher-key", "publisher.asc")
    signature = ("--checksums-signature-url", f"{published}/SHA512SUMS.sign")
    done = import_(tintype, published, "disk.qcow2", *origin, *signature)
    image = await client.images.get(json.loads(done.stdout)["id"])
    assert image.status is Status.ACTIVE
    staged = await happened(client, image, ImageStaged)
    assert isinstance(staged.origin, Origin)
    assert staged.origin.publisher_fingerprint == gpg.fingerprint("publisher")
    told = tintype("image", "history", image.id, "--output", "json")
    assert gpg.fingerprint("publisher") in told.stdout
    await client.images.delete(image.id)


async def test_a_list_with_its_signature_in_it_needs_no_other_file(client: Client, published: str, gpg: GnuPG) -> None:
    image = await client.images.create("listed", disk_format="qcow2", container_format="bare")
    operation = await client.images.import_(
        image.id,
        uri=f"{published}/disk.qcow2",
        checksums=SignedChecksums(f"{published}/CHECKSUM", "", gpg.public("publisher")),
    )
    await client.operations.wait(operation, timeout_s=DEADLINE_S)
    await client.images.delete(image.id)


@pytest.mark.parametrize(
    ("file", "key", "reason"),
    [
        ("other.qcow2", "publisher.asc", "DIGEST_MISMATCH"),
        ("disk.qcow2", "stranger.asc", "CHECKSUMS_SIGNATURE"),
        ("missing.qcow2", "publisher.asc", "CHECKSUMS_INCOMPLETE"),
    ],
)
async def test_what_is_not_the_publishers_is_refused_with_its_reason(
    tintype: Run, client: Client, published: str, file: str, key: str, reason: str
) -> None:
    origin = ("--checksums-url", f"{published}/CHECKSUM", "--publisher-key", key)
    done = import_(tintype, published, file, *origin, code=ExitCode.CONTENT)
    assert reason in done.stdout + done.stderr
    async for image in client.images.list(name="listed"):
        assert image.status is Status.QUEUED
        await client.images.delete(image.id)


async def test_the_sdk_says_the_same(client: Client, published: str, gpg: GnuPG) -> None:
    image = await client.images.create("listed", disk_format="qcow2", container_format="bare")
    checksums = SignedChecksums(f"{published}/SHA512SUMS", f"{published}/SHA512SUMS.sign", gpg.public("stranger"))
    operation = await client.images.import_(image.id, uri=f"{published}/disk.qcow2", checksums=checksums)
    with pytest.raises(OperationFailedError) as failed:
        await client.operations.wait(operation, timeout_s=DEADLINE_S)
    assert failed.value.reason == "CHECKSUMS_SIGNATURE"
    await client.images.delete(image.id)
