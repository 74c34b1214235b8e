"""Hostile files of every kind, sent to the whole stack: their own reason, a queued image, and not one byte kept."""

from __future__ import annotations

import asyncio
import bz2
import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, stored_files
from tests.e2e.web_source import web_source
from tintype.client import Client, ContentError, Failure, ImportMethod, OperationFailedError, Status
from tintype.domain.events import ImageStepFailed
from tintype.testing.handmade_archives import docker_archive, link, member, tar
from tintype.testing.hostile import hostile_images
from tintype.testing.hostile_compressed import hostile_compressed

DEADLINE_S = 60
Sent = tuple[str, str, Callable[[Path], bytes]]


def sample(name: str, disk_format: str = "") -> Sent:
    """A row of the corpus, declared as it says; its reason is looked up there."""
    image = hostile_images()[name]
    return image.error.reason, disk_format or str(image.declared or "qcow2"), lambda _: image.build()


def compressed(name: str, disk_format: str = "raw") -> Sent:
    """A compressed row of the corpus."""
    file = hostile_compressed()[name]
    return file.error.reason, disk_format, lambda _: file.build()


def by_qemu_img(reason: str, disk_format: str, *arguments: str) -> Sent:
    """What ``qemu-img create`` makes of it; ``{}`` is a directory, and the image is the file ``image`` in it."""

    def make(directory: Path) -> bytes:
        for name in ("base.qcow2", "base.vhdx"):
            command = ["qemu-img", "create", "-q", "-f", name.split(".")[1], str(directory / name), "4M"]
            subprocess.run(command, check=True)
        words = [word.replace("{}", str(directory)) for word in arguments]
        subprocess.run(["qemu-img", "create", "-q", *words], check=True, stdout=subprocess.DEVNULL)
        return (directory / "image").read_bytes()

    return reason, disk_format, make


# Not LUKS: qemu-img measures for seconds how slow its key shall be, and fails where the machine is busy.
SECRET = ("--object", "secret,id=key,data=secret", "-o", "encrypt.format=aes,encrypt.key-secret=key")
LAYER_THAT_LEADS_OUT = tar(link("etc", "/etc"), member("../../etc/passwd", b"root::0:0::/:/bin/sh\n"))

HOSTILE: dict[str, Sent] = {
    "backing file": by_qemu_img(
        "UNSAFE_BACKING_FILE", "qcow2", "-f", "qcow2", "-b", "{}/base.qcow2", "-F", "qcow2", "{}/image"
    ),
    "data file": by_qemu_img(
        "UNSAFE_DATA_FILE", "qcow2", "-f", "qcow2", "-o", "data_file={}/data,data_file_raw=on", "{}/image", "4M"
    ),
    "extents of two files": by_qemu_img(
        "UNSAFE_EXTENT", "vmdk", "-f", "vmdk", "-o", "subformat=monolithicFlat", "{}/image", "4M"
    ),
    "extent at a path": sample("vmdk: absolute path"),
    "vmdk with a parent": sample("vmdk: parent hint"),
    "vdi with a parent": sample("vdi: parent"),
    "vhd with a parent": sample("vhd: difference"),
    "vhdx with a parent": sample("vhdx: parent"),
    "vhdx with a log": sample("vhdx: log to replay"),
    "raw that is qcow2": sample("raw that is qcow2"),
    "raw that is vmdk": sample("raw that is vmdk"),
    "two formats at once": sample("qcow2 and vdi at once"),
    "archive that leads out": sample("ova: link that leads out"),
    "archive of two disks": sample("ova: file that nothing names"),
    "archive against its manifest": sample("ova: manifest of another disk"),
    "entities": sample("ova: deep XML"),
    "layer that leads out": ("ARCHIVE_TRAVERSAL", "docker", lambda _: docker_archive([LAYER_THAT_LEADS_OUT])),
    "layer that is a bomb": sample("docker: gzip bomb"),
    "bz2 bomb": ("DECOMPRESSION_BOMB", "raw", lambda _: bz2.compress(bytes(64 << 20)) * 17),
    "zip of two": compressed("zip: two entries"),
    "tar in xz": compressed("xz: tar inside"),
    "zstd cut": compressed("zstd: ends in the middle"),
    "enormous disk": sample("qcow2: virtual size at the integer's limit"),
    "giant disk in a small file": by_qemu_img("ALLOCATION_RATIO", "qcow2", "-f", "qcow2", "{}/image", "8T"),
    "cut": sample("vdi: ends in a block"),
    "absurd table": sample("qcow2: absurd L1"),
    "checksum": sample("vhd: wrong checksum"),
    "empty": sample("empty", "raw"),
    "encrypted": by_qemu_img("ENCRYPTED_IMAGE", "qcow2", "-f", "qcow2", *SECRET, "{}/image", "4M"),
}

BY_UPLOAD = [name for name in HOSTILE if name not in ("bz2 bomb", "zip of two", "tar in xz", "zstd cut", "encrypted")]
"""Plain uploads are neither decompressed nor converted."""


def test_every_refusal_that_bytes_can_meet_is_sent_to_the_stack() -> None:
    of_files = {image.error.reason for image in hostile_images().values()}
    of_files |= {file.error.reason for file in hostile_compressed().values()}
    assert {reason for reason, _, _ in HOSTILE.values()} == of_files | {"ENCRYPTED_IMAGE"}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_import_is_refused_by_its_rule(stack: Stack, client: Client, tmp_path: Path, name: str) -> None:
    reason, disk_format, make = HOSTILE[name]
    image = await client.images.create(name=name, disk_format=disk_format, container_format="bare")
    (tmp_path / "file").write_bytes(make(tmp_path))
    with web_source(tmp_path) as url:
        operation = await client.images.import_(image.id, method=ImportMethod.WEB_DOWNLOAD, uri=f"{url}/file")
        with pytest.raises(OperationFailedError) as failed:
            await client.operations.wait(operation, timeout_s=DEADLINE_S)
    assert failed.value.reason == reason
    ended = await client.operations.get(operation)
    assert ended.failure is not None
    assert ended.failure.reason == reason, ended.failure
    await is_queued_and_empty(stack, client, image.id, ended.failure)


@pytest.mark.parametrize("name", BY_UPLOAD)
async def test_hostile_upload_is_refused_by_its_rule(stack: Stack, client: Client, tmp_path: Path, name: str) -> None:
    reason, disk_format, make = HOSTILE[name]
    image = await client.images.create(name=name, disk_format=disk_format, container_format="bare")
    with pytest.raises(ContentError) as refused:
        await client.images.upload(image.id, io.BytesIO(make(tmp_path)))
    assert refused.value.reason == reason
    await is_queued_and_empty(stack, client, image.id, None)


async def is_queued_and_empty(stack: Stack, client: Client, image_id: str, failure: Failure | None) -> None:
    """The image waits for other bytes, its last event says why, and the store has nothing of it."""
    image = await client.images.get(image_id)
    assert (image.status, image.size, image.stores) == (Status.QUEUED, None, ())
    assert image.failure == failure
    if failure:
        assert failure.message
        events = [event.payload async for event in client.images.history(image_id)]
        assert isinstance(events[-1], ImageStepFailed)
        assert events[-1].failure == failure
    async with asyncio.timeout(DEADLINE_S):
        while any(image_id in name for name in stored_files(stack)):
            await asyncio.sleep(0.05)
    await client.images.delete(image_id)
