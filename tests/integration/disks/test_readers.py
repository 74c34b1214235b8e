"""Disks of every other format than raw and qcow2, made by qemu-img: what is read of them is what qemu-img reads."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest

from tintype.disks.disk import Disk, Extent
from tintype.disks.guest_digest import digest_of
from tintype.disks.opening import open_disk
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect.tables.vhd_geometry import has_geometry_size
from tintype.testing.images import QEMU_IMG, SUBFORMATS, run_qemu_img, set_vhd_creator

pytestmark = [pytest.mark.qemu]

_MIB = 1 << 20
GEOMETRY = 40 << 16 | 4 << 8 | 17

KINDS: Mapping[str, tuple[DiskFormat, tuple[str, ...]]] = {
    name: made
    for name, made in SUBFORMATS.items()
    if made[0] in (DiskFormat.VMDK, DiskFormat.VDI, DiskFormat.VHD, DiskFormat.VHDX)
} | {
    "ploop": (DiskFormat.PLOOP, ("-O", "parallels")),
    "ploop-small-clusters": (DiskFormat.PLOOP, ("-O", "parallels", "-o", "cluster_size=64k")),
    "vhd-dynamic-by-geometry": (DiskFormat.VHD, ("-O", "vpc")),
    "vhd-fixed-by-geometry": (DiskFormat.VHD, ("-O", "vpc", "-o", "subformat=fixed")),
    "vhdx-large-blocks": (DiskFormat.VHDX, ("-O", "vhdx", "-o", "block_size=256M")),
    "vhdx-zero-state": (DiskFormat.VHDX, ("-O", "vhdx", "-o", "block_state_zero=off,block_size=1M")),
    "vmdk-zeroed-grains": (DiskFormat.VMDK, ("-O", "vmdk", "-S", "0", "-o", "zeroed_grain=on")),
    "vmdk-full": (DiskFormat.VMDK, ("-O", "vmdk", "-S", "0")),
    "vmdk-stream-full": (DiskFormat.VMDK, ("-O", "vmdk", "-S", "0", "-o", "subformat=streamOptimized")),
}
QEMU_NAMES = {DiskFormat.VHD: "vpc", DiskFormat.PLOOP: "parallels"}

DISKS = {
    "empty": (5 * _MIB, ()),
    "one sector": (512, ((0, 512),)),
    "whole blocks": (8 * _MIB, ((0, 4096), (3 * _MIB - 100, 70_000), (7 * _MIB, _MIB))),
    "odd sectors": (5 * _MIB + 3 * 512, ((_MIB - 1, 3), (2 * _MIB, 300_000), (5 * _MIB + 2 * 512, 512))),
    "last grain short": (40 * _MIB + 512, ((33 * _MIB + 5, 5), (40 * _MIB, 512))),
    "full": (3 * _MIB + 65536, ((0, 3 * _MIB + 65536),)),
}


def make_raw(path: Path, name: str) -> Path:
    size, parts = DISKS[name]
    source = random.Random(name)
    with path.open("wb") as disk:
        disk.truncate(size)
        for offset, length in parts:
            disk.seek(offset)
            half = length // 2
            disk.write(source.randbytes(length - half) + b"compressible"[:1] * half)
    return path


def make(kind: str, raw: Path, path: Path) -> Path:
    run_qemu_img("convert", "-f", "raw", *KINDS[kind][1], str(raw), str(path))
    return path


def as_qemu_reads(path: Path, disk_format: DiskFormat) -> bytes:
    raw = path.with_suffix(".back")
    run_qemu_img("convert", "-f", QEMU_NAMES.get(disk_format, str(disk_format)), "-O", "raw", str(path), str(raw))
    return raw.read_bytes()


def read_all(disk: Disk, step: int) -> bytes:
    return b"".join(disk.read(offset, step) for offset in range(0, disk.size, step))


def read_extents(disk: Disk) -> bytes:
    """The disk by its extents alone, which must be in order and without gaps."""
    content = b""
    for extent in disk.extents():
        assert extent.offset == len(content) and extent.length > 0
        content += bytes(extent.length) if extent.is_zero else disk.read(extent.offset, extent.length)
    return content


@pytest.mark.parametrize("content", DISKS)
@pytest.mark.parametrize("kind", KINDS)
def test_disk_reads_as_qemu_img_reads_it(kind: str, content: str, tmp_path: Path) -> None:
    path = make(kind, make_raw(tmp_path / "raw", content), tmp_path / "image")
    expected = as_qemu_reads(path, KINDS[kind][0])
    with open_disk(path, KINDS[kind][0]) as disk:
        assert disk.size == len(expected)
        assert read_all(disk, _MIB) == expected
        assert read_all(disk, 77_777) == expected
        assert read_extents(disk) == expected
        assert disk.read(disk.size - 100, 1000) == expected[-100:]
        assert disk.read(disk.size, 1) == b"" == disk.read(disk.size + _MIB, 1)


@pytest.mark.parametrize("content", DISKS)
def test_guest_digest_is_the_same_in_every_format(content: str, tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", content)
    with open_disk(raw, DiskFormat.RAW) as disk:
        expected = digest_of(disk)
    # A geometry says only some sizes: qemu-img rounds up, so that it is another disk.
    for kind in sorted(kind for kind in KINDS if not kind.endswith("by-geometry")):
        path = make(kind, raw, tmp_path / kind)
        with open_disk(path, KINDS[kind][0]) as disk:
            assert digest_of(disk) == expected, kind


@pytest.mark.parametrize(
    "kind", [kind for kind, made in KINDS.items() if not re.search("fixed|static", kind) and "-S" not in made[1]]
)
def test_zeros_of_a_large_disk_are_told_without_reading_them(kind: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(20 << 30)
    with open_disk(make(kind, raw, tmp_path / "image"), KINDS[kind][0]) as disk:
        assert list(disk.extents()) == [Extent(0, disk.size, is_zero=True)]


def test_vhdx_of_the_largest_size_is_told_in_few_extents(tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img("create", "-f", "vhdx", "-o", "block_size=1M", str(path), "16T")
    with open_disk(path, DiskFormat.VHDX) as disk:
        extents = list(disk.extents())
    assert disk.size == 16 << 40
    assert all(extent.is_zero for extent in extents) and len(extents) <= 256


@pytest.mark.parametrize("block_size", ["1M", "16M", "256M"])
def test_vhdx_of_several_chunks_finds_its_blocks(block_size: str, tmp_path: Path) -> None:
    """Entries for sector bitmaps stand between those of the blocks."""
    raw, path = tmp_path / "raw", tmp_path / "image"
    places = [0, (4 << 30) - 4096, 4 << 30, 8 << 30, (21 << 30) + 12345, (40 << 30) - 512]
    with raw.open("wb") as file:
        file.truncate(40 << 30)
        for number, place in enumerate(places):
            file.seek(place)
            file.write(bytes([number + 1]) * 512)
    run_qemu_img("convert", "-f", "raw", "-O", "vhdx", "-o", f"block_size={block_size}", str(raw), str(path))
    with open_disk(path, DiskFormat.VHDX) as disk, open_disk(raw, DiskFormat.RAW) as original:
        assert [disk.read(place, 512) for place in places] == [bytes([n + 1]) * 512 for n in range(len(places))]
        assert digest_of(disk) == digest_of(original)


def make_vhd_by(creator: bytes, kind: str, tmp_path: Path) -> Path:
    """A VHD of 5 MiB and a little more, whose geometry says 1.3 MiB."""
    path = make(kind, make_raw(tmp_path / "raw", "odd sectors"), tmp_path / "image")
    set_vhd_creator(path, creator, GEOMETRY)
    return path


@pytest.mark.parametrize("creator", [b"vpc ", b"qemu", b"qem2", b"win ", b"d2v ", b"CTXS", b"tap\0"])
@pytest.mark.parametrize("kind", ["vhd-fixed", "vhd-dynamic"])
def test_vhd_is_as_large_as_qemu_img_says_for_its_creator(kind: str, creator: bytes, tmp_path: Path) -> None:
    path = make_vhd_by(creator, kind, tmp_path)
    with open_disk(path, DiskFormat.VHD) as disk:
        assert read_all(disk, _MIB) == as_qemu_reads(path, DiskFormat.VHD)


@pytest.mark.parametrize("creator", [b"vpc ", b"qemu", b"qem2", b"win ", b"wa\0\0", b"vbox"])
def test_qemu_img_can_be_told_the_size_that_is_read(creator: bytes, tmp_path: Path) -> None:
    """Also of creators that a QEMU may not know."""
    path = make_vhd_by(creator, "vhd-dynamic", tmp_path)
    rule = "chs" if has_geometry_size(creator, GEOMETRY) else "current_size"
    options = f"driver=vpc,force_size_calc={rule},file.driver=file,file.filename={path}"
    run_qemu_img("convert", "--image-opts", options, "-O", "raw", str(tmp_path / "back"))
    with open_disk(path, DiskFormat.VHD) as disk:
        assert read_all(disk, _MIB) == (tmp_path / "back").read_bytes()


def test_ploop_version_1_reads_as_qemu_img_reads_it(tmp_path: Path) -> None:
    path = make("ploop", make_raw(tmp_path / "raw", "whole blocks"), tmp_path / "image")
    image = bytearray(path.read_bytes())
    image[:16] = b"WithoutFreeSpace"
    cluster, entries = (int.from_bytes(image[at : at + 4], "little") for at in (28, 32))
    for at in range(64, 64 + entries * 4, 4):
        sector = int.from_bytes(image[at : at + 4], "little") * cluster
        image[at : at + 4] = sector.to_bytes(4, "little")
    path.write_bytes(image)
    with open_disk(path, DiskFormat.PLOOP) as disk:
        assert read_all(disk, _MIB) == (tmp_path / "raw").read_bytes() == as_qemu_reads(path, DiskFormat.PLOOP)


def test_disk_within_another_file_is_read(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", "whole blocks")
    for kind in KINDS.keys() - {"vhd-fixed-by-geometry", "vhd-dynamic-by-geometry"}:
        image = make(kind, raw, tmp_path / "image").read_bytes()
        (tmp_path / "outer").write_bytes(b"x" * 700 + image + b"y" * 900)
        with open_disk(tmp_path / "outer", KINDS[kind][0], offset=700, length=len(image)) as disk:
            assert read_all(disk, _MIB) == raw.read_bytes(), kind


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_file_that_is_cut_is_refused_or_reads_the_same(kind: str, share: float, tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", "whole blocks")
    path = make(kind, raw, tmp_path / "image")
    expected = as_qemu_reads(path, KINDS[kind][0])
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    try:
        with open_disk(path, KINDS[kind][0]) as disk:
            content = read_extents(disk)
    except RefusedContentError:
        return
    assert content == expected  # what was cut belonged to no block


def test_qemu_img_agrees_on_every_size(tmp_path: Path) -> None:
    for kind in KINDS:
        path = make(kind, make_raw(tmp_path / "raw", "odd sectors"), tmp_path / kind)
        qemu_format = QEMU_NAMES.get(KINDS[kind][0], str(KINDS[kind][0]))
        told = subprocess.run(
            [str(QEMU_IMG), "info", "-f", qemu_format, "--output=json", str(path)],
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip
        with open_disk(path, KINDS[kind][0]) as disk:
            assert f'"virtual-size": {disk.size},' in told, kind


def test_vhdx_with_sectors_of_4_kib_is_read_though_qemu_img_does_not(tmp_path: Path) -> None:
    path = make("vhdx-dynamic", make_raw(tmp_path / "raw", "whole blocks"), tmp_path / "image")
    image = bytearray(path.read_bytes())
    region = image.index(b"metadata")
    entry = image.index(UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f").bytes_le, region)
    item = region + int.from_bytes(image[entry + 16 : entry + 20], "little")
    assert image[item : item + 4] == (512).to_bytes(4, "little")
    image[item : item + 4] = (4096).to_bytes(4, "little")
    path.write_bytes(image)
    with open_disk(path, DiskFormat.VHDX) as disk:
        assert read_all(disk, _MIB) == (tmp_path / "raw").read_bytes()
