"""Decompressed streams: what comes out is what went in, in bounded pieces; what is wrong with them is told."""

from __future__ import annotations

import gzip
import lzma
import random
import shutil
import subprocess
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.domain.errors import DecompressionBombError, RefusedContentError
from tintype.inspect.compression.decoders import PIECE_SIZE
from tintype.inspect.compression.decompressor import FREE_SIZE, MAX_RATIO, Decompressor, is_tar
from tintype.inspect.compression.kinds import DECOMPRESSIBLE, compression_of
from tintype.testing.hostile_compressed import COMPRESSORS, CONTENT, MAX_SIZE, hostile_compressed, zipped
from tintype.testing.hostile_compressed import FREE_SIZE as SMALL_FREE_SIZE
from tintype.testing.hostile_compressed import MAX_RATIO as SMALL_RATIO

MIB = 1 << 20
DISK = random.Random(1).randbytes(700_000) + bytes(3 * MIB) + b"tintype\n" * 90_000


def decompressed(kind: str, content: bytes, chunk_size: int = MIB, **bounds: int) -> bytes:
    decompressor = Decompressor(kind, **({"max_size": MAX_SIZE} | bounds))
    out = bytearray()
    for offset in range(0, len(content), chunk_size):
        for piece in decompressor.feed(memoryview(content)[offset : offset + chunk_size]):
            assert 0 < len(piece) <= PIECE_SIZE
            out += piece
    decompressor.finish()
    assert (decompressor.received_size, decompressor.size) == (len(content), len(out))
    return bytes(out)


def hostile_bounds() -> dict[str, int]:
    return {"max_size": MAX_SIZE, "max_ratio": SMALL_RATIO, "free_size": SMALL_FREE_SIZE}


def test_every_kind_that_is_taken_can_be_taken_apart() -> None:
    assert COMPRESSORS.keys() == DECOMPRESSIBLE


@pytest.mark.parametrize("chunk_size", [MIB, 65_537, 997])
@pytest.mark.parametrize("kind", sorted(DECOMPRESSIBLE))
def test_what_went_in_comes_out_however_it_is_cut(kind: str, chunk_size: int) -> None:
    content = COMPRESSORS[kind](DISK)
    assert compression_of(content) == kind
    assert decompressed(kind, content, chunk_size) == DISK


@pytest.mark.parametrize("kind", sorted(DECOMPRESSIBLE))
def test_bytes_may_come_one_by_one(kind: str) -> None:
    assert decompressed(kind, COMPRESSORS[kind](CONTENT), 1) == CONTENT


PROGRAMS: dict[str, Sequence[str]] = {
    "gzip": ("gzip", "-c"),
    "gzip -9": ("gzip", "-9c"),
    "xz": ("xz", "-c"),
    "xz -9e": ("xz", "-9ec"),
    "xz -T2": ("xz", "-T2", "--block-size=1MiB", "-c"),
    "zstd": ("zstd", "-qc"),
    "zstd --ultra": ("zstd", "-qc", "--ultra", "-22"),
    "zstd --long": ("zstd", "-qc", "--long=27"),
    "bz2": ("bzip2", "-c"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_files_of_the_system_s_programs_are_taken_apart(name: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(DISK)
    content = subprocess.run([*PROGRAMS[name], str(path)], check=True, capture_output=True, timeout=60).stdout
    assert decompressed(name.split()[0], content) == DISK


@pytest.mark.parametrize("options", [(), ("-0",), ("-fz",), ("-9",)])
def test_zip_archives_of_info_zip_are_taken_apart(options: Sequence[str], tmp_path: Path) -> None:
    path, archive = tmp_path / "disk.raw", tmp_path / "disk.zip"
    path.write_bytes(DISK)
    subprocess.run(["zip", "-q", *options, str(archive), path.name], cwd=tmp_path, check=True, timeout=60)
    assert decompressed("zip", archive.read_bytes()) == DISK


def test_zip_archive_that_was_written_to_a_pipe_is_taken_apart(tmp_path: Path) -> None:
    made = subprocess.run(["zip", "-q", "-", "-"], input=DISK, check=True, capture_output=True, timeout=60).stdout
    assert decompressed("zip", made) == DISK
    assert decompressed("zip", zipped(("disk.raw", DISK), is_stream=True), 997) == DISK


def test_programs_are_installed() -> None:
    assert all(shutil.which(program[0]) for program in [*PROGRAMS.values(), ("zip",)])


@pytest.mark.parametrize("kind", sorted(DECOMPRESSIBLE - {"zip"}))
def test_several_members_are_one_file(kind: str) -> None:
    compress = COMPRESSORS[kind]
    content = b"".join(compress(DISK[offset : offset + 300_000]) for offset in range(0, len(DISK), 300_000))
    assert decompressed(kind, content, 100_003) == DISK


def test_members_may_be_many_and_not_tiny_at_once() -> None:
    small = gzip.compress(random.Random(3).randbytes(64), mtime=0)
    assert decompressed("gzip", small * 5000, 9973) == gzip.decompress(small) * 5000
    assert decompressed("gzip", gzip.compress(b"", mtime=0) * 1000 + gzip.compress(b"disk")) == b"disk"


def test_padding_of_xz_and_skippable_frames_of_zstd_are_passed_over() -> None:
    assert decompressed("xz", lzma.compress(b"a") + bytes(8) + lzma.compress(b"b") + bytes(4), 3) == b"ab"
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0note"
    assert decompressed("zstd", skippable + zstandard.compress(b"disk") + skippable) == b"disk"


@pytest.mark.parametrize("chunk_size", [MIB, 1021])
@pytest.mark.parametrize("name", hostile_compressed())
def test_hostile_file_is_refused_for_its_own_reason(name: str, chunk_size: int) -> None:
    hostile = hostile_compressed()[name]
    with pytest.raises(hostile.error) as refusal:
        decompressed(hostile.kind, hostile.build(), chunk_size, **hostile_bounds())
    assert type(refusal.value) is hostile.error
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("kind", sorted(DECOMPRESSIBLE))
def test_memory_is_bounded_however_much_comes_out(kind: str) -> None:
    content = COMPRESSORS[kind](bytes(32 * MIB))
    tracemalloc.start()
    try:
        decompressor = Decompressor(kind, max_size=1 << 30)
        assert sum(len(piece) for piece in decompressor.feed(content)) == 32 * MIB
        decompressor.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * PIECE_SIZE  # of which the usual dictionary of xz takes 8


def test_bounds_admit_an_honest_disk_that_is_mostly_empty() -> None:
    # By the ratios that zeros alone have; only bz2's is beyond the bound, and has half a MiB of data beside them.
    size = 20 << 30
    for ratio, data in ((1030, 0), (6900, 0), (32_700, 0), (1_340_000, MIB // 2)):
        assert size <= FREE_SIZE + MAX_RATIO * (size // ratio + data)


def test_size_is_bounded_where_the_ratio_is_not() -> None:
    with pytest.raises(DecompressionBombError, match="more than the 1000 bytes"):
        decompressed("gzip", gzip.compress(bytes(1001)), max_size=1000)
    assert decompressed("gzip", gzip.compress(bytes(1000)), max_size=1000) == bytes(1000)


@given(
    kind=st.sampled_from(sorted(DECOMPRESSIBLE)),
    content=st.one_of(st.binary(max_size=5000), st.integers(0, 200_000).map(bytes)),
    chunk_size=st.integers(1, 5000),
)
@settings(deadline=None, max_examples=60)
def test_any_content_comes_back(kind: str, content: bytes, chunk_size: int) -> None:
    assert decompressed(kind, COMPRESSORS[kind](content), chunk_size) == content


@given(
    kind=st.sampled_from(sorted(DECOMPRESSIBLE)),
    patches=st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), max_size=4),
    cut=st.integers(0, 2000),
    chunk_size=st.integers(1, 2000),
)
@settings(deadline=None, max_examples=200)
def test_any_bytes_lead_to_content_or_a_refusal(
    kind: str, patches: list[tuple[int, bytes]], cut: int, chunk_size: int
) -> None:
    content = bytearray(COMPRESSORS[kind](CONTENT[:1000] + random.Random(2).randbytes(500)))
    for offset, patch in patches:
        content[offset : offset + len(patch)] = patch
    try:
        decompressed(kind, bytes(content[: len(content) - cut]), chunk_size, **hostile_bounds())
    except RefusedContentError:
        return  # any other error fails the test


@given(block=st.binary(min_size=512, max_size=512))
def test_a_disk_s_first_sector_is_no_tar(block: bytes) -> None:
    assert not is_tar(block)
    assert not is_tar(bytes(512))
