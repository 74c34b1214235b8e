"""Writing a disk into a raw file."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.disks.memory_disk import MemoryDisk
from tests.unit.disks.naive import naive_digest
from tintype.disks.guest_digest import digest_of
from tintype.disks.opening import open_disk
from tintype.disks.to_raw import write_raw
from tintype.domain.errors import AbandonedError, RefusedContentError, StoreFullError, StoreUnavailableError
from tintype.domain.values import DiskFormat

CHUNK = 1024 * 1024
BLOCK = 4096


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "output"
    path.touch(mode=0o600)
    return path


def test_output_and_digest_are_those_of_the_disk(output: Path) -> None:
    data = os.urandom(3 * CHUNK + 512) + bytes(9 * CHUNK) + b"end"
    disk = MemoryDisk(data, bounds=[3 * CHUNK + 512, 12 * CHUNK])
    assert write_raw(disk, output) == naive_digest(data)
    assert output.read_bytes() == data + bytes(-len(data) % 512)
    with open_disk(output, DiskFormat.RAW) as written:
        assert digest_of(written) == naive_digest(data)


@settings(deadline=None, max_examples=30)
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from([100, 512, BLOCK, 3 * BLOCK, CHUNK, 2 * CHUNK]), st.booleans()), max_size=8
    ),
    tells_zeros=st.booleans(),
    threads=st.integers(1, 4),
)
def test_any_disk_is_written_as_it_is(
    pieces: list[tuple[int, bool]], tells_zeros: bool, threads: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = b"".join(b"d" * length if is_data else bytes(length) for length, is_data in pieces)
    path = tmp_path_factory.mktemp("any") / "output"
    path.touch()
    disk = MemoryDisk(data, bounds=range(0, len(data), 100_000), tells_zeros=tells_zeros)
    assert write_raw(disk, path, threads=threads) == naive_digest(data)
    assert path.read_bytes() == data + bytes(-len(data) % 512)


def test_zeros_that_the_format_stores_stay_holes(output: Path) -> None:
    data = (b"d" * BLOCK + bytes(3 * BLOCK)) * 16
    write_raw(MemoryDisk(data, tells_zeros=False), output)
    assert output.read_bytes() == data
    assert output.stat().st_blocks * 512 == len(data) // 4


def test_progress_rises_to_one(output: Path) -> None:
    fractions: list[float] = []
    write_raw(MemoryDisk(b"d" * (30 * CHUNK)), output, on_progress=fractions.append)
    assert len(fractions) > 2 and fractions == sorted(fractions) and fractions[-1] == 1.0


def test_stop_ends_it(output: Path) -> None:
    stop = threading.Event()
    fractions: list[float] = []

    def on_progress(fraction: float) -> None:
        fractions.append(fraction)
        stop.set()

    with pytest.raises(AbandonedError):
        write_raw(MemoryDisk(b"d" * (100 * CHUNK)), output, on_progress=on_progress, stop=stop)
    assert len(fractions) == 1


def test_what_the_reader_refuses_ends_it(output: Path) -> None:
    before = threading.active_count()
    with pytest.raises(RefusedContentError, match="spoilt on purpose"):
        write_raw(MemoryDisk(b"d" * (100 * CHUNK), fails_at=50 * CHUNK), output)
    assert threading.active_count() == before


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_output_beyond_the_process_limit_is_a_full_store(output: Path) -> None:
    with largest_file(CHUNK), pytest.raises(StoreFullError):
        write_raw(MemoryDisk(b"d" * (2 * CHUNK)), output)


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, StoreFullError), (errno.EDQUOT, StoreFullError), (errno.EIO, StoreUnavailableError)],
)
def test_failed_write_is_told_in_the_domains_words(
    number: int, error: type[Exception], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(error):
        write_raw(MemoryDisk(b"d" * CHUNK), output)


def test_output_that_has_bytes_is_not_touched(output: Path) -> None:
    output.write_bytes(b"precious")
    with pytest.raises(StoreUnavailableError, match="not an empty file"):
        write_raw(MemoryDisk(b"d" * 512), output)
    assert output.read_bytes() == b"precious"


def test_output_is_not_made_nor_followed(tmp_path: Path, output: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="No such file"):
        write_raw(MemoryDisk(b"d" * 512), tmp_path / "missing")
    link = tmp_path / "link"
    link.symlink_to(output)
    with pytest.raises(StoreUnavailableError):
        write_raw(MemoryDisk(b"d" * 512), link)
    assert output.stat().st_size == 0
