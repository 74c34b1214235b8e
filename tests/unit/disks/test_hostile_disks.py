"""No file makes a reader do anything but read or refuse, within bounds."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import Disk
from tintype.disks.opening import known_readers, open_disk
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.testing.handmade import fixed_vhd, vdi, vhd, vhdx, vmdk
from tintype.testing.hostile_disks import HostileDisk, hostile_disks, ploop, stream_vmdk
from tintype.testing.mutable_disks import mutable_disks

_MIB = 1 << 20
HOSTILE = hostile_disks()
MUTABLE = mutable_disks()
MAX_EXTENTS = 200
MAX_READS = 20
MAX_BYTES_READ = 64 * _MIB


class CountingFile:
    """Counts what is read of files while a test runs."""

    def __init__(self) -> None:
        self.bytes_read = 0

    @classmethod
    def count(cls, monkeypatch: pytest.MonkeyPatch) -> CountingFile:
        counted, read = cls(), ByteFile.read

        def counting_read(file: ByteFile, offset: int, length: int) -> bytes:
            data = read(file, offset, length)
            counted.bytes_read += len(data)
            return data

        monkeypatch.setattr(ByteFile, "read", counting_read)
        return counted


def read_through(disk: Disk) -> None:
    """Read the begin of each of the first extents, as whoever copies the disk would."""
    end = reads = 0
    for extent in islice(disk.extents(), MAX_EXTENTS):
        assert extent.offset == end and extent.length > 0
        end = extent.end
        if not extent.is_zero and reads < MAX_READS:
            reads += 1
            length = min(extent.length, _MIB)
            assert len(disk.read(extent.offset, length)) == length
            last = extent.end - min(length, 999)
            assert len(disk.read(last, 999)) == min(999, disk.size - last)
    assert end <= disk.size


def read_by_extents(path: Path, disk_format: DiskFormat) -> None:
    with open_disk(path, disk_format) as disk:
        for extent in disk.extents():
            for offset in range(extent.offset, extent.end, _MIB):
                disk.read(offset, min(_MIB, extent.end - offset))


@pytest.mark.parametrize("sample", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_disk_is_refused_for_its_own_reason(sample: HostileDisk, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(sample.build())
    with pytest.raises(sample.error) as refusal:
        read_by_extents(path, sample.disk_format)
    assert type(refusal.value) is sample.error


def _content(disk: Disk) -> bytes:
    return disk.read(0, disk.size)


@pytest.mark.parametrize(
    ("disk_format", "image", "content"),
    [
        (DiskFormat.VDI, vdi(), b"\xda" * _MIB + bytes(_MIB)),
        (DiskFormat.VDI, vdi(disk_size=2 * _MIB - 1000), b"\xda" * _MIB + bytes(_MIB - 512)),
        (DiskFormat.VHD, vhd(), b"\xda" * 2 * _MIB),
        (DiskFormat.VHD, fixed_vhd(), b"\xda" * _MIB),
        (DiskFormat.VHDX, vhdx(), bytes(4 * _MIB)),
        (DiskFormat.PLOOP, ploop(), b"\1" * 65536 + bytes(65536) + b"\2" * 65536),
        (
            DiskFormat.PLOOP,
            ploop(magic=b"WithoutFreeSpace", entries=(129, 128, 0), sectors=383),
            (b"\1" * 65536)[512:] + b"\2" * 512 + b"\1" * 65536 + bytes(65024),
        ),
        (DiskFormat.VMDK, vmdk(), b"\xda" * 65536 + bytes(_MIB - 65536)),
        (DiskFormat.VMDK, vmdk(grain_sector=1, flags=7), bytes(_MIB)),
        (DiskFormat.VMDK, stream_vmdk(), b"\xda" * 65536 + bytes(_MIB - 65536)),
    ],
)
def test_handmade_disk_is_read(disk_format: DiskFormat, image: bytes, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(image)
    with open_disk(tmp_path / "image", disk_format) as disk:
        assert disk.size == len(content)
        assert _content(disk) == content
        zeros = b"".join(bytes([extent.is_zero]) * (extent.length // 512) for extent in disk.extents())
    assert all(not is_zero or not any(content[at * 512 : at * 512 + 512]) for at, is_zero in enumerate(zeros))


@pytest.mark.parametrize("state", [0, 1, 2, 3, 5])
def test_vhdx_blocks_that_are_not_stored_are_zeros(state: int, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(vhdx(bat_entry=3 << 20 | state)[: 3 * _MIB])
    with open_disk(tmp_path / "image", DiskFormat.VHDX) as disk:
        assert _content(disk) == bytes(4 * _MIB)


def test_vhdx_with_sectors_of_4_kib_is_read(tmp_path: Path) -> None:
    sector_size = {"8141bf1d-a96f-4709-ba47-f233a8faab5f": struct.pack("<I", 4096)}
    image = bytearray(vhdx(items=sector_size))
    image[3 * _MIB : 4 * _MIB] = b"\xda" * _MIB
    (tmp_path / "image").write_bytes(image)
    with open_disk(tmp_path / "image", DiskFormat.VHDX) as disk:
        assert _content(disk) == b"\xda" * _MIB + bytes(3 * _MIB)


def test_vhd_sectors_that_its_bitmap_calls_unused_may_hold_zeros(tmp_path: Path) -> None:
    image = bytearray(vhd())
    image[2048 + 100] = 0b1111_0111
    sector = 2048 + 512 + (100 * 8 + 4) * 512
    image[sector : sector + 512] = bytes(512)
    (tmp_path / "image").write_bytes(image)
    with open_disk(tmp_path / "image", DiskFormat.VHD) as disk:
        content = _content(disk)
        assert disk.read(804 * 512 - 10, 700) == content[804 * 512 - 10 :][:700]
    assert content[804 * 512 : 805 * 512] == bytes(512)
    assert content.count(0xDA) == 2 * _MIB - 512


def test_grain_is_inflated_once_for_small_reads_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = CountingFile.count(monkeypatch)
    (tmp_path / "image").write_bytes(stream_vmdk())
    with open_disk(tmp_path / "image", DiskFormat.VMDK) as disk:
        disk.read(0, 512)
        before = counted.bytes_read
        assert b"".join(disk.read(offset, 4096) for offset in range(0, 65536, 4096)) == b"\xda" * 65536
        assert counted.bytes_read == before


numbers = st.sampled_from([0, 1, 2, 0x7F, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, (1 << 64) - 1])
values = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.builds(lambda number, order: number.to_bytes(8, order), numbers, st.sampled_from(["little", "big"])),
    st.builds(lambda number: (number & 0xFFFF_FFFF).to_bytes(4, "little"), numbers),
    st.integers(0, 1 << 16).map(lambda number: number.to_bytes(4, "little")),
    st.integers(0, 1 << 16).map(lambda number: number.to_bytes(4, "big")),
)
changes = st.lists(st.tuples(st.integers(0, 99), st.floats(0, 1, exclude_max=True), values), max_size=4)


@pytest.mark.parametrize("name", MUTABLE)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=changes, share=st.one_of(st.just(1.0), st.floats(0, 1)), is_repaired=st.booleans())
def test_changed_image_is_read_or_refused_within_bounds(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: list[tuple[int, float, bytes]],
    share: float,
    is_repaired: bool,
) -> None:
    sound = MUTABLE[name]
    image = bytearray(sound.image)
    for choice, where, data in changes:
        begin, end = sound.places[choice % len(sound.places)]
        at = begin + int(where * (end - begin))
        image[at : at + len(data)] = data
    del image[int(len(sound.image) * share) :]
    if is_repaired:
        sound.repair(image)
    (tmp_path / "image").write_bytes(image)
    with monkeypatch.context() as patched:
        counted = CountingFile.count(patched)
        with suppress(RefusedContentError), open_disk(tmp_path / "image", sound.disk_format) as disk:
            read_through(disk)
        assert counted.bytes_read <= MAX_BYTES_READ


def test_each_of_these_formats_has_a_reader() -> None:
    assert {sound.disk_format for sound in MUTABLE.values()} <= known_readers().keys()
