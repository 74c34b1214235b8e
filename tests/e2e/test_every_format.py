"""What each format becomes on its way through the whole stack, with files that other programs made."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.roads import downloaded, happened, imported, offline, values
from tests.e2e.stack import Stack, stored_files
from tintype.client import Client
from tintype.domain.events import ConversionSkipped, ImageConverted, ImageStaged, SkipReason
from tintype.testing.boot_files import boot_file, cpio_of, run_program
from tintype.testing.handmade_archives import ONE_DISK, manifest, oci_archive, ova, ovf
from tintype.testing.hostile_compressed import zipped
from tintype.testing.images import SUBFORMATS, make_disk, make_image

DISK_BYTES = 8 << 20


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk in every image here."""
    return make_disk(tmp_path_factory.mktemp("disk") / "disk.raw", size_bytes=DISK_BYTES)


@pytest.mark.parametrize("subformat", ["qcow2-zstd", "qcow2-extended-l2", "vmdk-stream", "vdi-dynamic", "vhdx-dynamic"])
async def test_guest_digest_is_that_of_the_file_that_was_sent(
    client: Client, disk: Path, tmp_path: Path, subformat: str
) -> None:
    path = make_image(disk, subformat, tmp_path / "sent")
    image = await imported(client, tmp_path, path.read_bytes(), SUBFORMATS[subformat][0])
    converted = await happened(client, image, ImageConverted)
    assert (image.disk_format, image.container_format) == ("raw", "bare")
    assert await downloaded(client, image, tmp_path) == disk.read_bytes()
    assert image.guest_digest == converted.source_guest_digest == converted.blob.guest_digest
    assert image.guest_digest == offline(path, "--guest-digest")["guest_digest"]
    # What is a matter of the encoding ended with it; the disk's own facts go on.
    assert not [key for key in values(image) if key.startswith(("qcow2_", "vmdk_", "vdi_", "vhdx_", "vmware_"))]
    assert values(image)["partition_table"] == "none"


async def test_appliance_as_glance_declares_it_becomes_a_bare_disk(client: Client, disk: Path, tmp_path: Path) -> None:
    inside = make_image(disk, "vmdk-stream", tmp_path / "inside").read_bytes()
    descriptor = ovf(disks=ONE_DISK.replace('capacity="1"', f'capacity="{DISK_BYTES >> 20}"'))
    listed = manifest({"machine.ovf": descriptor, "machine-disk1.vmdk": inside})
    appliance = ova(descriptor, disk=inside, manifest_last=listed)

    image = await imported(client, tmp_path, appliance, "vmdk", "ova")

    assert (image.disk_format, image.container_format) == ("raw", "bare")
    assert (image.size, image.virtual_size) == (DISK_BYTES, DISK_BYTES)
    assert await downloaded(client, image, tmp_path) == disk.read_bytes()
    assert image.guest_digest == offline(tmp_path / "source", "--guest-digest")["guest_digest"]
    assert values(image)["hw_firmware_type"] == "uefi"
    assert not [key for key in values(image) if key.startswith("ova_")]
    staged = await happened(client, image, ImageStaged)
    assert staged.blob.facts["ova_disk_format"].value == "vmdk"


async def test_container_archive_passes_through_with_its_facts(client: Client, tmp_path: Path) -> None:
    archive = oci_archive()
    image = await imported(client, tmp_path, archive, "raw", "docker")
    assert (image.container_format, image.size) == ("docker", len(archive))
    assert (values(image)["architecture"], values(image)["os_type"]) == ("x86_64", "linux")
    assert (await happened(client, image, ConversionSkipped)).why is SkipReason.NOT_A_DISK
    assert await downloaded(client, image, tmp_path) == archive


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": lambda content: run_program("zstd", "-q", "-c", stdin=content),
    "bz2": lambda content: run_program("bzip2", "-c", stdin=content),
    "zip": lambda content: zipped(("disk.qcow2", content), is_stream=True),
}


@pytest.mark.parametrize("kind", COMPRESSED)
async def test_compressed_image_is_the_image_inside(client: Client, disk: Path, tmp_path: Path, kind: str) -> None:
    inside = make_image(disk, "qcow2-v3", tmp_path / "inside").read_bytes()
    sent = COMPRESSED[kind](inside)
    image = await imported(client, tmp_path, sent, "qcow2")
    assert image.disk_format == "raw"
    assert await downloaded(client, image, tmp_path) == disk.read_bytes()
    received = (await happened(client, image, ImageStaged)).received
    assert (received.size, received.compression) == (len(sent), kind)
    assert received.digests["sha256"] == hashlib.sha256(sent).hexdigest()


async def test_what_is_declared_compressed_stays_so(client: Client, disk: Path, tmp_path: Path) -> None:
    sent = gzip.compress(make_image(disk, "qcow2-v3", tmp_path / "inside").read_bytes())
    image = await imported(client, tmp_path, sent, "qcow2", "compressed")
    assert (image.disk_format, image.container_format, image.size) == ("qcow2", "compressed", len(sent))
    assert await downloaded(client, image, tmp_path) == sent


def an_iso(directory: Path) -> bytes:
    tree = directory / "tree"
    tree.mkdir()
    (tree / "readme").write_text("hello\n")
    run_program("xorriso", "-as", "mkisofs", "-quiet", "-V", "TINTYPE", "-o", str(directory / "iso"), str(tree))
    return (directory / "iso").read_bytes()


def a_ramdisk(directory: Path) -> bytes:
    tree = directory / "root"
    tree.mkdir()
    (tree / "init").write_text("#!/bin/sh\n")
    return run_program("xz", "-c", "--check=crc32", stdin=cpio_of(tree))


def a_root(directory: Path) -> bytes:
    (directory / "ext4").touch()
    run_program("mke2fs", "-q", "-t", "ext4", "-L", "root", str(directory / "ext4"), "8M")
    return (directory / "ext4").read_bytes()


async def test_iso_passes_through_with_its_facts(stack: Stack, client: Client, tmp_path: Path) -> None:
    content = an_iso(tmp_path)
    image = await imported(client, tmp_path, content, "iso")
    assert (image.disk_format, image.size, values(image)["iso_volume_id"]) == ("iso", len(content), "TINTYPE")
    assert await downloaded(client, image, tmp_path) == content
    assert len([name for name in stored_files(stack) if image.id in name]) == 1


async def test_machine_image_is_linked_to_its_kernel_and_its_ramdisk(client: Client, tmp_path: Path) -> None:
    path = boot_file("boot/vmlinuz-*")
    kernel = await imported(client, tmp_path, path.read_bytes(), "aki", "aki")
    assert (kernel.disk_format, kernel.size) == ("aki", path.stat().st_size)
    assert values(kernel)["kernel_version"] == path.name.removeprefix("vmlinuz-")
    ramdisk = await imported(client, tmp_path, a_ramdisk(tmp_path), "ari", "ari")
    assert (ramdisk.disk_format, values(ramdisk)["ari_compression"]) == ("ari", "xz")

    links = {"kernel_id": kernel.id, "ramdisk_id": ramdisk.id}
    machine = await imported(client, tmp_path, a_root(tmp_path), "ami", "ami", properties=links)

    assert (machine.disk_format, machine.container_format) == ("ami", "ami")
    assert {key: machine.effective_properties[key] for key in links} == links
    assert values(machine)["ami_file_system"] == "ext4"
    assert [each.id async for each in client.images.list(properties=links)] == [machine.id]
