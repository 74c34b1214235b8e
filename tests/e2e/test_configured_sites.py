"""Sites that are configured otherwise than `tintype up` is by itself: what becomes of imports there."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import tintype.client
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.roads import DEADLINE_S, downloaded, happened, imported, values
from tests.e2e.stack import Stack
from tests.e2e.web_source import web_source
from tintype.client import Client, LocalSigner, OperationFailedError, ServiceSigner, Status, Trust
from tintype.domain.events import ConversionSkipped, ImageConverted, ImageStaged, ImportPlugin, SkipReason
from tintype.testing.boot_files import run_program
from tintype.testing.handmade_archives import LAYER, directory, docker_archive, link, member, tar
from tintype.testing.images import make_disk, make_image
from tintype.trust.custody import LinkName, Proof

OS_RELEASE = b'ID=debian\nVERSION_ID="13"\n'
ROOT = tar(directory("etc/"), member("etc/os-release", OS_RELEASE), directory("usr/bin/"), link("bin", "usr/bin"))


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a publisher's key, and one below it with the certificate."""
    folder = tmp_path_factory.mktemp("publisher")
    (folder / "certificates").mkdir()
    words = ("-newkey", "rsa:3072", "-nodes", "-keyout", "key.pem", "-out", "certificates/publisher-1.pem")
    run_program("openssl", "req", "-x509", *words, "-days", "2", "-subj", "/CN=Publisher", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory, publisher: Path) -> Iterator[Stack]:
    """A site that makes disks of containers, adds properties, and knows a publisher."""
    settings = {
        "TINTYPE_CONVERTER__CONVERT_DOCKER": "true",
        "TINTYPE_CONVERTER__OUTPUT_FORMAT": "qcow2",
        "TINTYPE_CONVERTER__QCOW2_COMPRESSION": "zstd",
        "TINTYPE_IMPORTER__INJECTED_PROPERTIES": "hw_machine_type=q35,site=north",
        "TINTYPE_SIGNER__CERTIFICATE_DIR": str(publisher / "certificates"),
    }
    yield from running(Stack(tmp_path_factory.mktemp("eager"), {**ENVIRONMENT, **settings}))


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory, publisher: Path) -> Iterator[Stack]:
    """A site with every plugin switched off, that knows a publisher."""
    settings = {f"TINTYPE_IMPORTER__{name}": "false" for name in ("DECOMPRESSION", "CONVERSION", "INTROSPECTION")}
    settings["TINTYPE_SIGNER__CERTIFICATE_DIR"] = str(publisher / "certificates")
    yield from running(Stack(tmp_path_factory.mktemp("idle"), {**ENVIRONMENT, **settings}))


def running(stack: Stack) -> Iterator[Stack]:
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture
async def at_eager(eager: Stack) -> AsyncIterator[Client]:
    async with tintype.client.connect(eager.client_config) as connected:
        yield connected


@pytest.fixture
async def at_idle(idle: Stack) -> AsyncIterator[Client]:
    async with tintype.client.connect(idle.client_config) as connected:
        yield connected


@pytest.fixture(scope="module")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("disk")
    return make_image(make_disk(folder / "disk.raw"), "qcow2-v3", folder / "image").read_bytes()


async def test_container_becomes_a_disk_whose_system_is_told(at_eager: Client, tmp_path: Path) -> None:
    image = await imported(at_eager, tmp_path, docker_archive([ROOT, LAYER]), "raw", "docker")
    assert (image.disk_format, image.container_format) == ("raw", "bare")
    converted = await happened(at_eager, image, ImageConverted)
    assert (converted.tool, converted.source_guest_digest) == ("mke2fs", None)
    assert image.guest_digest == converted.blob.guest_digest != ""
    assert values(image)["file_system"] == "ext4"
    assert values(image)["architecture"] == "x86_64"
    (tmp_path / "root").write_bytes(await downloaded(at_eager, image, tmp_path))
    assert run_program("e2fsck", "-fn", str(tmp_path / "root"))
    told = run_program("debugfs", "-R", "cat /etc/os-release", str(tmp_path / "root"))
    assert told == b"ID=example\n"  # the upper layer's
    assert values(image)["os_distro"] == "example"


async def test_layers_below_are_told_where_none_above_hides_them(at_eager: Client, tmp_path: Path) -> None:
    image = await imported(at_eager, tmp_path, docker_archive([ROOT]), "raw", "docker")
    told = (values(image)["os_type"], values(image)["os_distro"], values(image)["os_version"])
    assert told == ("linux", "debian", "13")


async def test_other_output_formats_hold_the_same_disk(at_eager: Client, qcow2: bytes, tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "disk.raw")
    image = await imported(at_eager, tmp_path, raw.read_bytes(), "raw")
    assert image.disk_format == "qcow2"
    assert values(image)["qcow2_compression_type"] == "zstd"
    staged = await happened(at_eager, image, ImageStaged)
    converted = await happened(at_eager, image, ImageConverted)
    assert image.guest_digest == staged.blob.guest_digest == converted.source_guest_digest
    as_it_came = await imported(at_eager, tmp_path, qcow2, "qcow2")
    assert as_it_came.guest_digest == image.guest_digest
    assert (await happened(at_eager, as_it_came, ConversionSkipped)).why is SkipReason.ALREADY_PREFERRED


async def test_properties_of_the_site_are_added_unless_an_administrator_imports(
    eager: Stack, at_eager: Client, qcow2: bytes, tmp_path: Path
) -> None:
    image = await imported(at_eager, tmp_path, qcow2, "qcow2", properties={"site": "south", "mine": "1"})
    assert image.properties == {"hw_machine_type": "q35", "site": "north", "mine": "1"}
    assert (await happened(at_eager, image, ImageStaged)).injected == {"hw_machine_type": "q35", "site": "north"}
    admin = tmp_path / "admin.toml"
    admin.write_text(eager.client_config.read_text() + "admin = true\n")
    async with tintype.client.connect(admin) as administrator:
        exempt = await imported(administrator, tmp_path, qcow2, "qcow2")
    assert exempt.properties == {}


def signed(publisher: Path, content: bytes) -> dict[str, str]:
    """The four properties, as the openssl program signs."""
    words = ("-sha256", "-sign", "key.pem", "-sigopt", "rsa_padding_mode:pss")
    signature = run_program("openssl", "dgst", *words, stdin=content, cwd=publisher)
    return {
        "img_signature": base64.b64encode(signature).decode(),
        "img_signature_hash_method": "SHA-256",
        "img_signature_key_type": "RSA-PSS",
        "img_signature_certificate_uuid": "publisher-1",
    }


async def test_signature_is_over_what_was_sent_not_over_what_was_inside(
    eager: Stack, at_eager: Client, publisher: Path, qcow2: bytes, tmp_path: Path
) -> None:
    sent = run_program("zstd", "-q", "-c", stdin=qcow2)
    image = await imported(at_eager, tmp_path, sent, "qcow2", properties=signed(publisher, sent))
    assert image.verification is not None
    assert image.verification.verdict == "signed"
    assert (await happened(at_eager, image, ImageStaged)).received.compression == "zstd"

    other = await at_eager.images.create(
        name="other", disk_format="qcow2", container_format="bare", properties=signed(publisher, qcow2)
    )
    with web_source(tmp_path) as url:
        operation = await at_eager.images.import_(other.id, uri=f"{url}/source")
        with pytest.raises(OperationFailedError) as failed:
            await at_eager.operations.wait(operation, timeout_s=DEADLINE_S)
    assert failed.value.reason == "SIGNATURE_INVALID"
    assert (await at_eager.images.get(other.id)).status is Status.QUEUED
    await at_eager.images.delete(other.id)


@pytest.mark.parametrize("is_converted", [True, False], ids=["conversion on", "conversion off"])
@pytest.mark.parametrize("by", ["publisher", "service"])
async def test_who_signed_what_was_sent_is_proven_by_who_fetches_it(
    eager: Stack, idle: Stack, publisher: Path, by: str, is_converted: bool, tmp_path: Path
) -> None:
    raw = make_disk(tmp_path / "disk.raw")
    signer = LocalSigner(publisher / "key.pem", "publisher-1") if by == "publisher" else ServiceSigner()
    config = (eager if is_converted else idle).client_config
    async with tintype.client.connect(config) as client:
        image = await client.images.create("signed", disk_format="raw", container_format="bare")
        await client.images.upload(image.id, raw, stage=True, sign=signer)
        await client.operations.wait(await client.images.import_(image.id), timeout_s=DEADLINE_S)
        image = await client.images.get(image.id)
        trust = Trust(await trust_store(client, publisher, tmp_path / "trust"))
        done = await client.images.download(image.id, tmp_path / "copy", trust=trust)
    assert image.disk_format == ("qcow2" if is_converted else "raw")
    assert done.custody is not None
    proofs = {link.name: link.proof for link in done.custody.links}
    assert proofs[LinkName.SIGNATURE] is (Proof.PUBLISHER if by == "publisher" else Proof.SERVICE)
    is_publishers = by == "publisher" and not is_converted
    assert proofs[LinkName.PUBLISHED] is (Proof.BOTH if is_publishers else Proof.SERVICE)


async def trust_store(client: Client, publisher: Path, directory: Path) -> Path:
    """What a node that trusts the publisher and the service was given."""
    (directory / "service-keys").mkdir(parents=True)
    (directory / "publisher.pem").write_bytes((publisher / "certificates" / "publisher-1.pem").read_bytes())
    for key in await client.signer.keys():
        (directory / "service-keys" / f"{key.id}.pem").write_text(key.certificate)
    return directory


async def test_what_is_switched_off_is_not_done(idle: Stack, at_idle: Client, qcow2: bytes, tmp_path: Path) -> None:
    off = {plugin.plugin: plugin.enabled for plugin in await at_idle.importer.import_plugins()}
    assert off == dict.fromkeys(ImportPlugin, False)
    image = await imported(at_idle, tmp_path, qcow2, "qcow2")
    assert (image.disk_format, image.size, dict(image.read_facts)) == ("qcow2", len(qcow2), {})
    assert image.virtual_size == 8 << 20
    assert image.guest_digest.startswith("guest-disk-v1:")
    assert (await happened(at_idle, image, ConversionSkipped)).why is SkipReason.DISABLED
    assert set((await happened(at_idle, image, ImageStaged)).switched_off) == set(ImportPlugin)
    assert await downloaded(at_idle, image, tmp_path) == qcow2


async def test_compressed_image_is_refused_where_nothing_is_decompressed(
    idle: Stack, at_idle: Client, qcow2: bytes, tmp_path: Path
) -> None:
    with pytest.raises(OperationFailedError) as failed:
        await imported(at_idle, tmp_path, run_program("xz", "-c", "-0", stdin=qcow2), "qcow2")
    assert failed.value.reason == "FORMAT_MISMATCH"


async def test_unsafe_image_is_refused_whatever_is_switched_off(idle: Stack, at_idle: Client, tmp_path: Path) -> None:
    words = ("-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", str(tmp_path / "overlay"), "4M")
    subprocess.run(["qemu-img", "create", "-q", *words], check=True)
    with pytest.raises(OperationFailedError) as failed:
        await imported(at_idle, tmp_path, (tmp_path / "overlay").read_bytes(), "qcow2")
    assert failed.value.reason == "UNSAFE_BACKING_FILE"
