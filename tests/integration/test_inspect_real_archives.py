"""Archives made by GNU tar, umoci, skopeo and qemu-img: what we read of them, and that none is cut short unnoticed."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tintype.disks.archives import layers_of, pass_layer
from tintype.domain.errors import FormatMismatchError, ManifestMismatchError, RefusedContentError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspection, Inspector
from tintype.testing.handmade_archives import ONE_DISK, ovf
from tintype.testing.images import make_disk, make_image

DISK_SIZE = 8 << 20
MIB = 1 << 20
FILES = ["etc/os-release", "etc/release", "usr/bin/sh", "var/run", "bin"]
_TIMEOUT_S = 60


def run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S)


def inspect(path: Path, declared: DiskFormat | None = None, size: int | None = None) -> Inspection:
    inspector = Inspector(declared)
    content = path.read_bytes()[:size]
    for offset in range(0, len(content), MIB):
        inspector.feed(content[offset : offset + MIB])
    return inspector.finish()


def facts(path: Path) -> dict[str, PropertyValue]:
    return {key: fact.value for key, fact in inspect(path).facts.items()}


# --- OVA --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a descriptor, a disk by qemu-img and manifests."""
    folder = tmp_path_factory.mktemp("machine")
    make_image(make_disk(folder / "disk.raw", size_bytes=DISK_SIZE), "vmdk-stream", folder / "machine-disk1.vmdk")
    (folder / "machine.ovf").write_bytes(ovf(disks=ONE_DISK.replace('capacity="1"', 'capacity="8"')))
    for algorithm in ("sha1", "sha256", "sha512"):
        lines = (
            f"{algorithm.upper()}({name})= {hashlib.new(algorithm, (folder / name).read_bytes()).hexdigest()}\n"
            for name in ("machine.ovf", "machine-disk1.vmdk")
        )
        (folder / algorithm).mkdir()
        (folder / algorithm / "machine.mf").write_text("".join(lines))
    return folder


def make_ova(machine: Path, path: Path, *, kind: str, manifest: str) -> Path:
    """With its manifest behind the disk, as programs write it that hash while they pack; SHA-512 must come before."""
    disk, listed = "machine-disk1.vmdk", ["-C", manifest, "machine.mf"]
    names = ["machine.ovf", *listed, "-C", "..", disk] if manifest == "sha512" else ["machine.ovf", disk, *listed]
    run("tar", f"--format={kind}", "-cf", str(path), *names, cwd=machine)
    return path


@pytest.mark.qemu
@pytest.mark.parametrize("manifest", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("kind", ["v7", "ustar", "gnu", "posix"])
def test_ova_by_gnu_tar_is_read_with_its_disk(machine: Path, kind: str, manifest: str, tmp_path: Path) -> None:
    path = make_ova(machine, tmp_path / "machine.ova", kind=kind, manifest=manifest)
    found = inspect(path, DiskFormat.OVA)
    assert (found.disk_format, found.virtual_size) == (DiskFormat.OVA, DISK_SIZE)
    told = facts(path)
    offset, size = told["ova_disk_offset"], told["ova_disk_size_bytes"]
    assert isinstance(offset, int) and isinstance(size, int)
    assert path.read_bytes()[offset : offset + size] == (machine / "machine-disk1.vmdk").read_bytes()
    assert (told["ova_has_manifest"], told["vmdk_create_type"]) == (True, "streamOptimized")


@pytest.mark.qemu
def test_ova_whose_disk_was_changed_is_not_what_its_manifest_lists(machine: Path, tmp_path: Path) -> None:
    path = make_ova(machine, tmp_path / "machine.ova", kind="ustar", manifest="sha256")
    content = bytearray(path.read_bytes())
    content[facts(path)["ova_disk_offset"] + 70_000] ^= 1  # type: ignore[operator]
    path.write_bytes(content)
    with pytest.raises(ManifestMismatchError):
        inspect(path)


@pytest.mark.qemu
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.98])
def test_ova_that_is_cut_is_not_accepted(machine: Path, share: float, tmp_path: Path) -> None:
    path = make_ova(machine, tmp_path / "machine.ova", kind="ustar", manifest="sha256")
    with pytest.raises(RefusedContentError):
        inspect(path, DiskFormat.OVA, size=int(path.stat().st_size * share))


# --- containers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI image layout by umoci: a root file system, a file on top of it, and a whiteout."""
    folder = tmp_path_factory.mktemp("layout")
    root = folder / "rootfs"
    for name in ("etc", "usr/bin", "var"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "var/run").symlink_to("/run")
    (root / "etc/os-release").write_text("ID=example\n")
    (root / "etc/release").hardlink_to(root / "etc/os-release")
    (root / "usr/bin/sh").write_bytes(bytes(range(256)) * 20_000)
    run("umoci", "init", "--layout", "oci", cwd=folder)
    run("umoci", "new", "--image", "oci:box", cwd=folder)
    run("umoci", "insert", "--image", "oci:box", "rootfs", "/", cwd=folder)
    run("umoci", "insert", "--image", "oci:box", "rootfs/etc/release", "/etc/more", cwd=folder)
    run("umoci", "insert", "--image", "oci:box", "--whiteout", "/etc/release", cwd=folder)
    options = ("--config.entrypoint", "/bin/sh", "--config.user", "app", "--architecture", "arm64", "--os", "linux")
    run("umoci", "config", "--image", "oci:box", *options, cwd=folder)
    run("umoci", "gc", "--layout", "oci", cwd=folder)
    return folder


def make_archive(layout: Path, kind: str, path: Path) -> Path:
    if kind.startswith("tar"):
        run("tar", "-cf", str(path), "-C", "oci", *kind.split()[1:], cwd=layout)
    else:
        target = f"{kind}:{path}:example/box:1"
        run("skopeo", "--insecure-policy", "copy", "oci:oci:box", target, cwd=layout)
    return path


@pytest.mark.parametrize("kind", ["tar .", "tar index.json oci-layout blobs", "docker-archive", "oci-archive"])
def test_container_archive_is_read_layer_by_layer(layout: Path, kind: str, tmp_path: Path) -> None:
    path = make_archive(layout, kind, tmp_path / "archive")
    assert inspect(path, DiskFormat.DOCKER).disk_format is DiskFormat.DOCKER
    told = facts(path)
    expected = {
        "architecture": "aarch64", "os_type": "linux", "docker_entrypoint": '["/bin/sh"]', "docker_user": "app",
        "docker_layers": 3, "docker_layout": "docker" if kind == "docker-archive" else "oci",
    }  # fmt: skip
    assert expected.items() <= told.items()
    layers = layers_of(path)
    assert [layer.digest for layer in layers] == [told[f"docker_layer_{number}_digest"] for number in range(3)]
    names: list[list[str]] = []
    for layer in layers:
        content = bytearray()
        pass_layer(path, layer, content.extend)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            names.append([name for name in archive.getnames() if name])
    assert set(FILES) < set(names[0])
    assert names[1:] == [["etc/more"], ["etc/.wh.release"]]


def test_container_archive_with_layers_by_zstd_is_read(layout: Path, tmp_path: Path) -> None:
    """Made by the zstd program and by hand, since skopeo of Debian 12 keeps what is compressed already."""
    path = make_archive(layout, "docker-archive", tmp_path / "docker")
    with tarfile.open(path) as archive, tarfile.open(tmp_path / "zstd", "w") as packed:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            content = file.read() if file else b""
            if info.name.endswith(".tar") and info.isreg():
                command = ["zstd", "-q", "-c", "-"]
                done = subprocess.run(command, input=content, capture_output=True, check=True, timeout=_TIMEOUT_S)
                content = done.stdout
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    assert facts(tmp_path / "zstd")["docker_layers"] == 3
    assert {layer.compression for layer in layers_of(tmp_path / "zstd")} == {"zstd"}


@pytest.mark.parametrize("kind", ["tar .", "docker-archive"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_container_archive_that_is_cut_is_not_accepted(layout: Path, kind: str, share: float, tmp_path: Path) -> None:
    path = make_archive(layout, kind, tmp_path / "archive")
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content)
    with pytest.raises(RefusedContentError):
        inspect(path, DiskFormat.DOCKER, size=int(len(content) * share))


def test_layer_that_was_changed_is_not_what_the_configuration_lists(layout: Path, tmp_path: Path) -> None:
    path = make_archive(layout, "docker-archive", tmp_path / "archive")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ID=example", b"ID=changed"))
    with pytest.raises(ManifestMismatchError):
        inspect(path)


def test_archive_of_two_images_is_refused_by_its_index(layout: Path, tmp_path: Path) -> None:
    run("cp", "-r", "oci", str(tmp_path / "oci"), cwd=layout)
    run("umoci", "new", "--image", "oci:other", cwd=tmp_path)
    run("tar", "-cf", "archive", "-C", "oci", ".", cwd=tmp_path)
    assert len(json.loads((tmp_path / "oci/index.json").read_text())["manifests"]) == 2
    with pytest.raises(RefusedContentError, match="2 images"):
        inspect(tmp_path / "archive")


@pytest.mark.parametrize("declared", [None, *DiskFormat])
def test_plain_tar_is_no_image_of_any_format(layout: Path, declared: DiskFormat | None, tmp_path: Path) -> None:
    run("tar", "-cf", str(tmp_path / "plain"), "-C", "rootfs", "etc/os-release", "usr", cwd=layout)
    with pytest.raises(FormatMismatchError):
        inspect(tmp_path / "plain", declared)
