"""Our qcow2 reader beside qemu-img, on images that QEMU's own tools made: the same bytes, the same digest."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.disks.naive import naive_digest
from tintype.disks.guest_digest import GuestDigester, digest_of
from tintype.disks.opening import open_disk
from tintype.disks.to_raw import write_raw
from tintype.domain.values import DiskFormat
from tintype.testing.images import make_disk, run_qemu_img

pytestmark = pytest.mark.qemu

MIB = 1024 * 1024
DISK_SIZE = 12 * MIB

OPTIONS = {
    "v2": ["-o", "compat=0.10"],
    "v2-zlib": ["-c", "-o", "compat=0.10"],
    "v3": [],
    "lazy-refcounts": ["-o", "lazy_refcounts=on,refcount_bits=1"],
    **{f"clusters-{size}": ["-o", f"cluster_size={size}"] for size in ("512", "1k", "4k", "1M", "2M")},
    "zlib": ["-c"],
    "zlib-512": ["-c", "-o", "cluster_size=512"],
    "zlib-2M": ["-c", "-o", "cluster_size=2M"],
    "zstd": ["-c", "-o", "compression_type=zstd"],
    "zstd-4k": ["-c", "-o", "compression_type=zstd,cluster_size=4k"],
    "zstd-2M": ["-c", "-o", "compression_type=zstd,cluster_size=2M"],
    "zlib-out-of-order": ["-c", "-W", "-m", "16"],
    "extended-l2": ["-o", "extended_l2=on"],
    "extended-l2-16k": ["-o", "extended_l2=on,cluster_size=16k"],
    "extended-l2-2M": ["-o", "extended_l2=on,cluster_size=2M"],
    "extended-l2-zstd": ["-c", "-o", "extended_l2=on,compression_type=zstd"],
    "preallocated-metadata": ["-o", "preallocation=metadata"],
    "preallocated-falloc": ["-o", "preallocation=falloc"],
    "preallocated-full": ["-o", "preallocation=full"],
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some random and some repetitive data, also across chunks, and short pieces everywhere."""
    path = make_disk(tmp_path_factory.mktemp("raw") / "disk.raw", size_bytes=DISK_SIZE)
    source = random.Random(7)
    with path.open("r+b") as disk:
        for _ in range(40):
            disk.seek(source.randrange(DISK_SIZE - 5000))
            disk.write(source.randbytes(source.choice([1, 511, 4096])))
    return path


def require_same_disk(image: Path, tmp_path: Path) -> None:
    """Read ``image`` in every way that there is, and compare with what qemu-img reads."""
    referee = tmp_path / "referee.raw"
    run_qemu_img("convert", "-f", "qcow2", "-O", "raw", str(image), str(referee))
    expected = referee.read_bytes()
    output = tmp_path / "output.raw"
    output.touch()
    with open_disk(image, DiskFormat.QCOW2) as disk:
        assert disk.size == len(expected)
        position, digester = 0, GuestDigester()
        for extent in disk.extents():
            assert extent.offset == position
            position = extent.end
            if extent.is_zero:
                assert not any(expected[extent.offset : extent.end])
                digester.skip_zeros(extent.length)
            else:
                digester.update(disk.read(extent.offset, extent.length))
        assert position == disk.size
        require_same_pieces(disk.read, expected)
        digest = naive_digest(expected)
        assert digester.digest() == digest
        assert digest_of(disk, threads=3) == digest
        assert write_raw(disk, output) == digest
    assert output.read_bytes() == expected
    assert output.stat().st_blocks <= referee.stat().st_blocks
    with open_disk(output, DiskFormat.RAW) as written:
        assert digest_of(written) == digest


def require_same_pieces(read: Callable[[int, int], bytes], expected: bytes) -> None:
    source = random.Random(11)
    for _ in range(100):
        offset, length = source.randrange(len(expected)), source.choice([1, 700, 70_000, 1_500_000])
        assert read(offset, length) == expected[offset : offset + length]


@pytest.mark.parametrize("kind", OPTIONS)
def test_disk_is_what_qemu_img_reads(kind: str, raw: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    run_qemu_img("convert", "-f", "raw", "-O", "qcow2", *OPTIONS[kind], str(raw), str(image))
    require_same_disk(image, tmp_path)
    with open_disk(image, DiskFormat.QCOW2) as disk, open_disk(raw, DiskFormat.RAW) as source:
        assert digest_of(disk) == digest_of(source)


@pytest.mark.parametrize("options", ["", "cluster_size=512", "extended_l2=on,cluster_size=64k", "cluster_size=2M"])
def test_disk_that_a_guest_wrote_into_is_what_qemu_img_reads(options: str, tmp_path: Path) -> None:
    """Out of order, with zeros and discards of parts of clusters, and grown while it was in use."""
    image = tmp_path / "disk.qcow2"
    run_qemu_img("create", "-f", "qcow2", *(["-o", options] if options else []), str(image), "10M")
    io(image, *(f"write -P {n + 1} {offset} {length}" for n, (offset, length) in enumerate(SCATTERED)))
    io(image, "write -z 64k 128k", "write -z -u 1M 256k", "write -z 5000k 1k", "discard 3M 512k", "discard 8M 2k")
    run_qemu_img("resize", "-f", "qcow2", str(image), "13M")
    io(image, "write -P 0xee 12M 3k", "write -c -P 0xcc 10M 2M")
    require_same_disk(image, tmp_path)


SCATTERED = [(9 << 20, 700 << 10), (0, 300 << 10), (1 << 20, 2 << 20), (3 << 20, 1 << 20), (5000 << 10, 2048),
             (8 << 20, 4096), (64 << 10, 64 << 10), ((10 << 20) - 512, 512)]  # fmt: skip


def test_snapshots_are_not_the_disk(raw: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    run_qemu_img("convert", "-f", "raw", "-O", "qcow2", str(raw), str(image))
    run_qemu_img("snapshot", "-c", "before", str(image))
    io(image, "write -P 0xaa 0 3M", "write -z 6M 1M")
    run_qemu_img("snapshot", "-c", "after", str(image))
    io(image, "write -P 0xbb 1M 64k")
    require_same_disk(image, tmp_path)


def test_shrunk_disk_is_what_qemu_img_reads(raw: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    run_qemu_img("convert", "-f", "raw", "-O", "qcow2", str(raw), str(image))
    run_qemu_img("resize", "-f", "qcow2", "--shrink", str(image), str(5 * MIB + 512))
    require_same_disk(image, tmp_path)


def test_raw_disk_of_odd_size_is_the_same_disk_in_qcow2(tmp_path: Path) -> None:
    source, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    source.write_bytes(b"odd" * 700_001)
    run_qemu_img("convert", "-f", "raw", "-O", "qcow2", str(source), str(image))
    with open_disk(source, DiskFormat.RAW) as odd, open_disk(image, DiskFormat.QCOW2) as even:
        assert (odd.size, even.size) == (2_100_003, 2_100_224)
        assert digest_of(odd) == digest_of(even)


@pytest.mark.parametrize("size", ["16T", "1023G"])
def test_huge_empty_disk_is_quick(size: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    run_qemu_img("create", "-f", "qcow2", str(image), size)
    with open_disk(image, DiskFormat.QCOW2) as disk:
        (extent,) = disk.extents()
        assert extent.is_zero and extent.length == disk.size
        digester = GuestDigester()
        digester.skip_zeros(disk.size)
        assert digest_of(disk) == digester.digest()


def test_clusters_that_were_never_written_are_zeros(tmp_path: Path) -> None:
    """Metadata are preallocated: every cluster has its place in the file, which is a hole."""
    image = tmp_path / "disk.qcow2"
    run_qemu_img("create", "-f", "qcow2", "-o", "preallocation=metadata", str(image), "1G")
    io(image, "write -P 1 512M 3M")
    with open_disk(image, DiskFormat.QCOW2) as disk:
        data = [extent for extent in disk.extents() if not extent.is_zero]
        assert sum(extent.length for extent in data) <= 8 * MIB
        assert any(extent.offset <= 512 * MIB and extent.end >= 515 * MIB for extent in data)
        assert disk.read(512 * MIB - 1, 2) == b"\0\1"


def test_dirty_disk_is_read_as_it_is(raw: Path, tmp_path: Path) -> None:
    """With lazy refcounts a machine that was killed leaves its image dirty: only refcounts may be wrong then."""
    image = tmp_path / "disk.qcow2"
    run_qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", "lazy_refcounts=on", str(raw), str(image))
    dirty = bytearray(image.read_bytes())
    dirty[79] |= 1
    copy = tmp_path / "dirty.qcow2"
    copy.write_bytes(dirty)
    with open_disk(copy, DiskFormat.QCOW2) as disk, open_disk(raw, DiskFormat.RAW) as source:
        assert digest_of(disk) == digest_of(source)


def io(image: Path, *commands: str) -> None:
    """Write as a guest does."""
    arguments = [argument for command in commands for argument in ("-c", command)]
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-d", "unmap", *arguments, str(image)],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
