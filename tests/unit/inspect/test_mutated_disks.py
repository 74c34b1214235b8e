"""Well-formed disks of every format, mutated: a verdict or a refusal, in bounded memory, and never a stumble."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspection, Inspector
from tintype.inspect.stream import HEAD_SIZE, MAX_REGION_SIZE, TAIL_SIZE
from tintype.inspect.tables.allocation import PIECE_SIZE
from tintype.testing.handmade import (
    fixed_vhd,
    ploop,
    qcow2,
    qcow2_extension,
    stream_vmdk,
    vdi,
    vhd,
    vhd_footer,
    vhdx,
    vmdk,
)

LIMITS = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
LUKS = qcow2_extension(0x0537BE77, struct.pack(">QQ", 6 * 4096, 4096))
SNAPSHOT = struct.pack(">QIHHIIQIIQQ", 0x3000, 1, 0, 0, 0, 0, 0, 0, 16, 0, 1 << 20).ljust(4096, b"\0")

# Each with the places where its structures lie, so that mutations hit what is read.
DISKS: dict[str, tuple[DiskFormat, Callable[[], bytes], tuple[int, ...]]] = {
    "qcow2": (DiskFormat.QCOW2, qcow2, (0, 64, 3 * 4096, 4 * 4096)),
    "qcow2 with snapshots": (
        DiskFormat.QCOW2,
        lambda: qcow2(nb_snapshots=1, snapshots_offset=6 * 4096, more=SNAPSHOT),
        (0, 56, 6 * 4096),
    ),
    "qcow2 with LUKS": (
        DiskFormat.QCOW2,
        lambda: qcow2(crypt_method=2, extensions=LUKS, more=b"LUKS\xba\xbe\0\1".ljust(4096, b"\0")),
        (0, 100, 6 * 4096),
    ),
    "vmdk": (DiskFormat.VMDK, vmdk, (0, 512, 21 * 512, 22 * 512)),
    "stream vmdk": (DiskFormat.VMDK, stream_vmdk, (0, 512, 21 * 512, 22 * 512, 23 * 512, 27 * 512, 28 * 512, 30 * 512)),
    "vdi": (DiskFormat.VDI, vdi, (0, 64, 330, 512)),
    "vhd": (DiskFormat.VHD, vhd, (0, 512, 1536)),
    "fixed vhd": (DiskFormat.VHD, lambda: fixed_vhd(4096), (0, 4096)),
    "vhdx": (DiskFormat.VHDX, vhdx, (0, 64 << 10, 192 << 10, 1 << 20, (1 << 20) + (64 << 10), 2 << 20)),
    "ploop": (DiskFormat.PLOOP, ploop, (0, 16, 32, 64)),
    "raw with LUKS": (DiskFormat.RAW, lambda: b"LUKS\xba\xbe\0\2".ljust(4096, b"\0"), (0, 160)),
}
CONTENTS = {name: build() for name, (_, build, _) in DISKS.items()}
READ = 4 * PIECE_SIZE
"""More than is held unless a table is looked at."""
BOUND = 8 * (HEAD_SIZE + MAX_REGION_SIZE + TAIL_SIZE)

numbers = st.builds(
    lambda value, code: struct.pack(code, value % (1 << 8 * struct.calcsize(code))),
    st.one_of(st.sampled_from(LIMITS), st.integers(0, 2**64 - 1)),
    st.sampled_from(["<H", "<I", "<Q", ">H", ">I", ">Q"]),
)
patches = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 96), st.one_of(numbers, st.binary(max_size=4))), max_size=4
)


def verdict(declared: DiskFormat | None, content: bytes, chunk_size: int = 1 << 20) -> Inspection | RefusedContentError:
    inspector = Inspector(declared, max_virtual_size=1 << 60, max_allocation_ratio=1 << 20)
    try:
        for offset in range(0, len(content), chunk_size):
            inspector.feed(content[offset : offset + chunk_size])
        return inspector.finish()
    except RefusedContentError as refusal:
        if refusal.__cause__ is not None:
            pytest.fail(f"a parser stumbled: {refusal.__cause__!r}")
        return refusal


def assert_judged(outcome: object) -> None:
    assert isinstance(outcome, Inspection | RefusedContentError)


def mutated(name: str, mutations: list[tuple[int, int, bytes]]) -> bytes:
    content, places = bytearray(CONTENTS[name]), DISKS[name][2]
    for place, offset, patch in mutations:
        begin = places[place % len(places)] + offset
        content[begin : begin + len(patch)] = patch
    return bytes(content)


@pytest.mark.parametrize("name", DISKS)
def test_disk_is_accepted_before_it_is_mutated(name: str) -> None:
    assert isinstance(verdict(DISKS[name][0], CONTENTS[name]), Inspection)


@pytest.mark.parametrize("name", DISKS)
@given(mutations=patches, cut=st.one_of(st.none(), st.integers(1, 5 << 20)), more=st.binary(max_size=600))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_disk_is_judged_and_no_parser_stumbles(
    name: str, mutations: list[tuple[int, int, bytes]], cut: int | None, more: bytes
) -> None:
    content = (mutated(name, mutations)[:cut] + more) or b"\0"
    whole, in_pieces = verdict(DISKS[name][0], content), verdict(DISKS[name][0], content, chunk_size=65_521)
    assert type(whole) is type(in_pieces)
    assert str(whole) == str(in_pieces)


@given(fields=st.lists(st.sampled_from(LIMITS), min_size=13, max_size=13), is_dynamic=st.booleans())
@settings(max_examples=100, deadline=None)
def test_vhd_of_any_numbers_under_a_right_checksum_is_judged(fields: list[int], is_dynamic: bool) -> None:
    footer = vhd_footer(
        disk_type=3 if is_dynamic else 2, data_offset=fields[0], current_size=fields[1], version=fields[2] % 2**32,
        cylinders=fields[3] % 2**16, heads=fields[4] % 256, sectors=fields[5] % 256,
    )  # fmt: skip
    assert_judged(verdict(DiskFormat.VHD, footer + vhd()[512:1536] + footer if is_dynamic else bytes(4096) + footer))


@given(
    fields=st.lists(st.sampled_from(LIMITS), min_size=4, max_size=4),
    entries=st.lists(st.sampled_from(LIMITS), min_size=1),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_vhdx_of_any_numbers_under_right_checksums_is_judged(fields: list[int], entries: list[int]) -> None:
    places = {
        "8b7ca206-4790-4b9a-b8fe-575f050f886e": (1 << 20, 1 << 20),
        "2dc27766-f623-4200-9d64-115e9bfd4a08": (fields[0] << 20 & 2**64 - 1, fields[1] << 20 & 2**32 - 1),
    }
    image = vhdx(regions=places, disk_size=fields[2], block_size=fields[3] % 2**32, entries=entries)
    assert_judged(verdict(DiskFormat.VHDX, image))
    assert_judged(verdict(DiskFormat.VHDX, vhdx(disk_size=fields[2], block_size=fields[3] % 2**32, entries=entries)))


def peak_bytes(declared: DiskFormat, content: bytes, bulk: bytes, count: int) -> int:
    """The most memory that was held while ``content`` and then ``count`` times ``bulk`` were inspected."""
    inspector = Inspector(declared)
    tracemalloc.start()
    try:
        with suppress(RefusedContentError):
            inspector.feed(content)
            for _ in range(count):
                inspector.feed(bulk)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(DISKS.keys() - {"vhdx"}))
def test_memory_is_bounded_though_every_number_is_as_large_as_it_may_be(name: str) -> None:
    declared, content = DISKS[name][0], CONTENTS[name][: 1 << 20]
    bulk = b"\x5a" * (1 << 20)
    for size in (struct.pack("<I", 2**28), struct.pack(">I", 2**22)):
        for offset in range(0, 104, 4):
            image = content[:offset] + size + content[offset + len(size) :]
            assert peak_bytes(declared, image, bulk, 4) < BOUND


def test_memory_is_bounded_for_the_largest_tables_of_blocks() -> None:
    bulk = struct.pack("<131072Q", *(number << 20 | 6 for number in range(1, 131073)))
    places = {
        "2dc27766-f623-4200-9d64-115e9bfd4a08": (2 << 20, 4095 << 20),
        "8b7ca206-4790-4b9a-b8fe-575f050f886e": (1 << 20, 1 << 20),
    }
    assert READ < peak_bytes(DiskFormat.VHDX, vhdx(disk_size=64 << 40, regions=places), bulk, 2) < BOUND
    entries = struct.pack("<262144I", *range(262144))
    giant = vdi(blocks=0x2000_0000, data_offset=0x8000_0200)[:512]
    assert READ < peak_bytes(DiskFormat.VDI, giant, entries, 2) < BOUND
    clusters = struct.pack(">131072Q", *(number << 21 for number in range(16, 131088)))
    table = qcow2(cluster_bits=21, size=1 << 40, l1_size=2, l1_table_offset=4 << 21, refcount_table_offset=2 << 21)[
        :104
    ]
    content = table.ljust(4 << 21, b"\0") + struct.pack(">QQ", 5 << 21, 6 << 21).ljust(1 << 21, b"\0")
    assert READ < peak_bytes(DiskFormat.QCOW2, content, clusters, 3) < BOUND
