"""Opening disks, and the window of a file beneath them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tintype.disks.byte_file import ByteFile
from tintype.disks.disk import Extent
from tintype.disks.opening import known_readers, open_disk
from tintype.domain.errors import (
    MalformedImageError,
    StoreUnavailableError,
    TruncatedError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat

MIB = 1024 * 1024


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """4 MiB: 1 MiB of zeros that are a hole, 64 KiB of data, and a hole again."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(b"d" * 65536)
    return path


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_every_reader_is_found() -> None:
    assert {DiskFormat.RAW, DiskFormat.QCOW2} <= known_readers().keys()


def test_format_without_a_disk_is_refused(sparse: Path) -> None:
    with pytest.raises(UnsupportedImageError, match="format docker"):
        open_disk(sparse, DiskFormat.DOCKER)


def test_holes_of_a_raw_file_are_zeros(sparse: Path) -> None:
    with open_disk(sparse, DiskFormat.RAW) as disk:
        assert list(disk.extents()) == [
            Extent(0, MIB, is_zero=True),
            Extent(MIB, 65536, is_zero=False),
            Extent(MIB + 65536, 3 * MIB - 65536, is_zero=True),
        ]
        assert disk.size == 4 * MIB
        assert disk.read(MIB - 1, 3) == b"\0dd"


def test_disk_in_a_window_begins_and_ends_with_it(sparse: Path) -> None:
    with open_disk(sparse, DiskFormat.RAW, offset=MIB + 512, length=65536) as disk:
        assert disk.size == 65536
        assert list(disk.extents()) == [Extent(0, 65024, is_zero=False), Extent(65024, 512, is_zero=True)]
        assert disk.read(65022, 514) == b"dd" + bytes(512)
        assert disk.read(65536, 100) == b""


def test_hole_free_file_is_one_extent(tmp_path: Path) -> None:
    path = tmp_path / "full"
    path.write_bytes(b"d" * 10000)
    with open_disk(path, DiskFormat.RAW) as disk:
        assert list(disk.extents()) == [Extent(0, 10000, is_zero=False)]


def test_empty_file_has_no_extents(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with open_disk(path, DiskFormat.RAW) as disk:
        assert (disk.size, list(disk.extents()), disk.read(0, 10)) == (0, [], b"")


def test_window_beyond_the_end_is_refused(sparse: Path) -> None:
    before = descriptors()
    with pytest.raises(TruncatedError):
        ByteFile(sparse, offset=MIB, length=4 * MIB)
    with pytest.raises(TruncatedError):
        ByteFile(sparse, offset=5 * MIB)
    assert descriptors() == before


def test_read_beyond_the_end_is_refused_where_it_must_be_exact(sparse: Path) -> None:
    with ByteFile(sparse) as file, pytest.raises(TruncatedError, match="a table should reach to byte 4194305"):
        file.read_exactly(4 * MIB - 1, 2, "a table")


def test_file_that_becomes_shorter_is_noticed(sparse: Path) -> None:
    with ByteFile(sparse) as file:
        os.truncate(sparse, MIB)
        assert file.size == 4 * MIB
        with pytest.raises(TruncatedError, match="became shorter"):
            file.read(MIB - 10, 20)


def test_symbolic_link_is_not_followed(sparse: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(sparse)
    with pytest.raises(UnsupportedImageError, match="symbolic link"):
        open_disk(link, DiskFormat.RAW)


def test_pipe_and_directory_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(UnsupportedImageError, match="not a regular file"):
            open_disk(path, DiskFormat.RAW)


def test_missing_file_is_the_stores_failure(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="No such file"):
        open_disk(tmp_path / "missing", DiskFormat.RAW)


def test_refused_image_leaves_no_file_open(sparse: Path) -> None:
    before = descriptors()
    with pytest.raises(MalformedImageError):
        open_disk(sparse, DiskFormat.QCOW2)
    assert descriptors() == before


def test_disk_can_be_closed_twice(sparse: Path) -> None:
    before = descriptors()
    disk = open_disk(sparse, DiskFormat.RAW)
    disk.close()
    disk.close()
    assert descriptors() == before


@pytest.mark.parametrize("window", [(0, None), (3, None), (1000, 30 << 20)])
def test_pieces_are_all_bytes_with_the_holes_between(window: tuple[int, int | None], tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"begin" * 400_000)
        file.seek(40 << 20)
        file.write(b"end")
    begin, length = window
    with ByteFile(path, offset=begin, length=length) as window_of_file:
        found = b"".join(bytes(piece) for piece in window_of_file.pieces())
    assert found == path.read_bytes()[begin:][:length]


def test_file_that_becomes_shorter_while_its_pieces_are_read_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (3 << 20))
    with ByteFile(path) as file:
        pieces = file.pieces()
        assert len(next(pieces)) == MIB
        os.truncate(path, 0)
        with pytest.raises(TruncatedError):
            next(pieces)
