"""`tintype inspect` on images that other programs made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tintype.disks.opening import known_readers
from tintype.testing.handmade_archives import ONE_DISK, VMDK_URI, ova, ovf
from tintype.testing.images import SUBFORMATS, make_disk, make_image

pytestmark = pytest.mark.qemu


def inspected(path: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tintype.cli", "inspect", str(path), "-o", "json", *options]
    done = subprocess.run(command, check=True, capture_output=True, timeout=100)
    assert done.stderr == b""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("disks") / "disk.raw")


@pytest.mark.parametrize("subformat", [name for name, (format_, _) in SUBFORMATS.items() if format_ in known_readers()])
def test_the_same_disk_has_the_same_digest_in_every_format(disk: Path, subformat: str, tmp_path: Path) -> None:
    image = make_image(disk, subformat, tmp_path / "image")

    answer = inspected(image, "--guest-digest", "--format", SUBFORMATS[subformat][0])

    assert (answer["format"], answer["safe"]) == (SUBFORMATS[subformat][0], True)
    assert answer["virtual_size"] == disk.stat().st_size
    assert answer["guest_digest"] == inspected(disk, "--guest-digest", "--no-contents")["guest_digest"]
    assert answer["facts"]["min_disk"]["value"] == 1


@pytest.mark.sandbox
def test_the_system_on_a_disk_is_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13"\n')
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(32 * 1024 * 1024)
    command = ["mke2fs", "-q", "-t", "ext4", "-L", "rootfs", "-d", str(root), str(disk)]
    subprocess.run(command, check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}, timeout=60)
    image = make_image(disk, "qcow2-zstd", tmp_path / "image.qcow2")

    facts = inspected(image)["facts"]

    told = {
        key: facts[key]["value"] for key in ("file_system", "file_system_label", "os_type", "os_distro", "os_version")
    }
    assert told == {
        "file_system": "ext4",
        "file_system_label": "rootfs",
        "os_type": "linux",
        "os_distro": "debian",
        "os_version": "13",
    }
    assert "os-release" in facts["os_distro"]["source"]


def test_the_disk_inside_of_an_appliance_is_read_where_it_is(disk: Path, tmp_path: Path) -> None:
    image = make_image(disk, "qcow2-zlib", tmp_path / "image")
    inside = ONE_DISK.replace(VMDK_URI, "qcow2").replace('capacity="1"', 'capacity="8"')
    (tmp_path / "machine.ova").write_bytes(ova(ovf(disks=inside), disk=image.read_bytes()))

    answer = inspected(tmp_path / "machine.ova", "--guest-digest")

    assert (answer["format"], answer["facts"]["ova_disk_format"]["value"]) == ("ova", "qcow2")
    assert answer["guest_digest"] == inspected(disk, "--guest-digest")["guest_digest"]
    assert answer["facts"]["partition_table"]["value"] == inspected(disk)["facts"]["partition_table"]["value"]
