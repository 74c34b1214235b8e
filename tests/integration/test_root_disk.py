"""A docker or OCI archive becomes a root disk: what debugfs and our own reading of the disk say is in it."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.converter.root_disk import make_root_disk
from tintype.disks.contents_jail import examine_contents
from tintype.disks.root_tree import MAX_LINKS
from tintype.domain.errors import ArchiveContentError, ArchiveTraversalError
from tintype.domain.values import DiskFormat
from tintype.runtime.jail import JailLimits, Sandbox, detect_sandbox
from tintype.testing.handmade_archives import docker_archive, member, oci_archive, pax, tar

pytestmark = pytest.mark.sandbox

LIMITS = JailLimits(wall_clock_s=60, cpu_s=60)
OS_RELEASE = b'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n'


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return detect_sandbox()


class LayerTar:
    """A layer, made by Python's tarfile."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._bytes, mode="w")

    def add(self, name: str, content: bytes | None = None, **fields: object) -> LayerTar:
        member = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(member, key, value)
        if content is not None:
            member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content or b""))
        return self

    def done(self) -> bytes:
        self._tar.close()
        return self._bytes.getvalue()


def base() -> bytes:
    return (
        LayerTar()
        .add("usr/lib", type=tarfile.DIRTYPE, mode=0o755)
        .add("usr/lib/os-release", OS_RELEASE, mode=0o644, mtime=1_700_000_000)
        .add("lib", type=tarfile.SYMTYPE, linkname="usr/lib")
        .add("etc/os-release", type=tarfile.SYMTYPE, linkname="../usr/lib/os-release")
        .add("etc/shadow", b"root:*:\n", mode=0o000, uid=0, gid=42)
        .add('home/ann/two words "quoted".txt', b"hello", mode=0o600, uid=1000, gid=1001)
        .add("usr/bin/su", b"#!", mode=0o4755)
        .add("usr/bin/also-su", type=tarfile.LNKTYPE, linkname="usr/bin/su")
        .add("dev/null", type=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
        .add("opt/old", b"gone soon")
        .add("var/cache/a", b"gone with its directory's content")
        .done()
    )


def upper() -> bytes:
    return (
        LayerTar()
        .add("opt/.wh.old", b"")
        .add("var/cache/.wh..wh..opq", b"")
        .add("var/cache/b", b"new")
        .add("lib/module", b"lands in usr/lib")
        .done()
    )


async def build(archive: bytes, directory: Path, sandbox: Sandbox) -> Path:
    source, output, scratch = directory / "archive.tar", directory / "output", directory / "scratch"
    source.write_bytes(archive)
    output.touch()
    scratch.mkdir()
    made = await make_root_disk(
        source, output, limits=LIMITS, sandbox=sandbox, scratch_dir=scratch, on_progress=lambda _: None
    )
    assert made.tool == "mke2fs"
    assert made.version[0].isdigit()
    assert list(scratch.iterdir()) == []
    return output


def debugfs(disk: Path, command: str) -> str:
    return subprocess.run(
        ["/sbin/debugfs", "-R", command, str(disk)], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("pack", [docker_archive, oci_archive])
async def test_layers_become_one_file_system(pack: Callable[..., bytes], tmp_path: Path, sandbox: Sandbox) -> None:
    disk = await build(pack(layers=[base(), upper()]), tmp_path, sandbox)
    assert subprocess.run(["/sbin/e2fsck", "-fn", str(disk)], capture_output=True, check=False).returncode == 0
    assert debugfs(disk, "cat /usr/lib/os-release") == OS_RELEASE.decode()
    assert debugfs(disk, "cat /usr/lib/module") == "lands in usr/lib"
    assert debugfs(disk, "cat /var/cache/b") == "new"
    assert "old" not in debugfs(disk, "ls /opt")
    assert " a " not in debugfs(disk, "ls /var/cache")
    assert 'Fast link dest: "usr/lib"' in debugfs(disk, "stat /lib")


async def test_owners_permissions_times_and_devices_are_those_of_the_layers(tmp_path: Path, sandbox: Sandbox) -> None:
    disk = await build(docker_archive(layers=[base()]), tmp_path, sandbox)
    shadow = debugfs(disk, "stat /etc/shadow")
    assert "Mode:  0000" in shadow
    assert "Group:    42" in shadow
    quoted = debugfs(disk, 'stat "/home/ann/two words ""quoted"".txt"')
    assert "Mode:  0600" in quoted
    assert "User:  1000   Group:  1001" in quoted
    su = debugfs(disk, "stat /usr/bin/su")
    assert "Mode:  04755" in su
    assert "Links: 2" in su
    assert "Type: character special" in debugfs(disk, "stat /dev/null")
    assert "mtime: 0x6553f100" in debugfs(disk, "stat /usr/lib/os-release")


async def test_operating_system_of_the_disk_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    disk = await build(docker_archive(layers=[base(), upper()]), tmp_path, sandbox)
    facts = await examine_contents(disk, DiskFormat.RAW, sandbox=sandbox)
    assert facts["file_system"].value == "ext4"
    assert (facts["os_distro"].value, facts["os_version"].value) == ("debian", "13")


async def test_layer_cannot_write_through_a_link_to_this_machine(tmp_path: Path, sandbox: Sandbox) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    layer = LayerTar().add("way", type=tarfile.SYMTYPE, linkname=str(outside)).add("way/out", b"got you").done()
    disk = await build(docker_archive(layers=[layer]), tmp_path, sandbox)
    assert list(outside.iterdir()) == []
    assert debugfs(disk, f"cat {outside}/out") == "got you"


async def test_hostile_layers_are_refused_and_leave_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    loop = LayerTar().add("a", type=tarfile.SYMTYPE, linkname="a").add("a/b", b"")
    with pytest.raises(ArchiveTraversalError):
        await build(docker_archive(layers=[loop.done()]), tmp_path, sandbox)
    assert list((tmp_path / "scratch").iterdir()) == []
    under_a_file = LayerTar().add("a", b"x").add("a/b", b"").done()
    (tmp_path / "second").mkdir()
    with pytest.raises(ArchiveContentError):
        await build(docker_archive(layers=[under_a_file]), tmp_path / "second", sandbox)


def long_way(levels: int, last: str) -> str:
    return "/".join(['"' * 255] * levels + [last])


async def test_name_cannot_command_what_sets_the_permissions(tmp_path: Path, sandbox: Sandbox) -> None:
    """Lines for debugfs end at 8 KiB, and what begins with an exclamation mark is a command for a shell."""
    names = [f"{'a' * length}!touch x" for length in range(100)]
    layer = LayerTar()
    for name in names:
        layer.add(long_way(16, name), type=tarfile.FIFOTYPE)
    with pytest.raises(ArchiveContentError, match="2048 bytes"):
        await build(docker_archive(layers=[layer.done()]), tmp_path, sandbox)
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_strange_names_are_only_names(tmp_path: Path, sandbox: Sandbox) -> None:
    layer = LayerTar()
    names = ["<12>", "-f", "!id", "#", '"', '""', '" mode 0 "', "a b", "\\n", "$(id)", "ü", "%s", "'", "..."]
    for number, name in enumerate(names, start=1):
        layer.add(f"files/{name}", b"x", mode=0o640, uid=number)
        layer.add(f"<8>/{name}", type=tarfile.FIFOTYPE, mode=0o640, uid=number)
        layer.add(f"devices {name}/{name}", type=tarfile.CHRTYPE, devmajor=1, devminor=number, uid=number)
    disk = await build(docker_archive(layers=[layer.done()]), tmp_path, sandbox)
    assert subprocess.run(["/sbin/e2fsck", "-fn", str(disk)], capture_output=True, check=False).returncode == 0
    for number, name in enumerate(names, start=1):
        quoted = name.replace('"', '""')
        assert f"User: {number:5} " in debugfs(disk, f'stat "/files/{quoted}"')
        assert "Type: FIFO" in debugfs(disk, f'stat "/<8>/{quoted}"')
        assert f"User: {number:5} " in debugfs(disk, f'stat "/devices {quoted}/{quoted}"')


async def test_long_paths_keep_their_owners(tmp_path: Path, sandbox: Sandbox) -> None:
    layer = LayerTar().add(long_way(7, "file"), b"x", mode=0o640, uid=77).done()
    disk = await build(docker_archive(layers=[layer]), tmp_path, sandbox)
    quoted = long_way(7, "file").replace('"', '""')
    assert "User:    77" in debugfs(disk, f'stat "/{quoted}"')


@pytest.mark.parametrize("mtime", ["nan", "inf", "-inf", "1e400", "-1"])
async def test_time_that_is_none_is_no_hindrance(mtime: str, tmp_path: Path, sandbox: Sandbox) -> None:
    layer = tar(pax({"mtime": mtime}), member("file", b"x"))
    disk = await build(docker_archive(layers=[layer]), tmp_path, sandbox)
    assert "Type: regular" in debugfs(disk, "stat /file")


async def test_device_that_no_system_has_is_refused(tmp_path: Path, sandbox: Sandbox) -> None:
    layer = LayerTar().add("d", type=tarfile.BLKTYPE, devmajor=1 << 12, devminor=0).done()
    with pytest.raises(ArchiveContentError, match="device"):
        await build(docker_archive(layers=[layer]), tmp_path, sandbox)


async def test_file_may_not_have_more_names_than_file_systems_let_it(tmp_path: Path, sandbox: Sandbox) -> None:
    layer = LayerTar().add("a", b"x")
    for number in range(MAX_LINKS):
        layer.add(f"d{number % 64}/{number}", type=tarfile.LNKTYPE, linkname="a")
    with pytest.raises(ArchiveContentError, match="names"):
        await build(docker_archive(layers=[layer.done()]), tmp_path, sandbox)
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_directory_that_would_be_searched_without_end_is_refused(tmp_path: Path, sandbox: Sandbox) -> None:
    layer = LayerTar()
    for number in range(50_001):
        layer.add(f"d/{number}", type=tarfile.SYMTYPE, linkname="x")
    with pytest.raises(ArchiveContentError, match="entries"):
        await build(docker_archive(layers=[layer.done()]), tmp_path, sandbox)
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_cancelled_work_leaves_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    layer = LayerTar()
    for number in range(2000):
        layer.add(f"d{number % 7}/{number}", b"content")
    (tmp_path / "archive.tar").write_bytes(docker_archive(layers=[layer.done()]))
    scratch, output = tmp_path / "scratch", tmp_path / "output"
    scratch.mkdir()
    output.touch()
    begun = asyncio.Event()
    making = asyncio.create_task(
        make_root_disk(
            tmp_path / "archive.tar", output, limits=LIMITS, sandbox=sandbox, scratch_dir=scratch,
            on_progress=lambda _: begun.set(),
        )
    )  # fmt: skip
    await begun.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert list(scratch.iterdir()) == []


async def test_layer_hides_nothing_of_its_own_in_whatever_order_it_comes(tmp_path: Path, sandbox: Sandbox) -> None:
    """Sorted archives have names that begin with a dot in front of the marks that hide."""
    lower = LayerTar().add("d/old", b"").add("d/sub/old", b"").add("e/old", b"").add("f/g/old", b"").add("h", b"lower")
    upper = LayerTar()
    upper.add("d/.bashrc", b"new").add("d/sub/new", b"new").add("d/.wh..wh..opq", b"")
    upper.add("e/new", b"new").add(".wh.e", b"").add(".wh.f", b"").add("h", b"upper").add(".wh.h", b"")
    disk = await build(docker_archive(layers=[lower.done(), upper.done()]), tmp_path, sandbox)
    for path in ("/d/.bashrc", "/d/sub/new", "/e/new"):
        assert debugfs(disk, f"cat {path}") == "new"
    assert debugfs(disk, "cat /h") == "upper"
    for path in ("/d/old", "/d/sub/old", "/e/old", "/f"):
        assert debugfs(disk, f"stat {path}") == ""
