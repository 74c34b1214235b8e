"""The inspector itself: bounded memory, early refusal, and no error but refusals, whatever the bytes are."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tintype.domain.errors import MalformedImageError, RefusedContentError, TruncatedError, UnsafeBackingFileError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspection, Inspector
from tintype.inspect.inspector import ALLOCATION_RATIO_FLOOR
from tintype.inspect.stream import HEAD_SIZE, MAX_REGION_SIZE, TAIL_SIZE
from tintype.inspect.tables.crc32c import crc32c
from tintype.testing.handmade import fixed_vhd, qcow2, stream_vmdk, vdi, vhd, vhdx, vmdk
from tintype.testing.hostile_sizes import empty_giants

BUILDERS: tuple[Callable[[], bytes], ...] = (qcow2, vmdk, stream_vmdk, vdi, vhd, fixed_vhd, vhdx)
CONTENTS = tuple(build() for build in BUILDERS)
MAGICS = (b"QFI\xfb", b"KDMV", b"conectix", b"vhdxfile", b"# Disk DescriptorFile\n", bytes(64) + b"\x7f\x10\xda\xbe")
TABLE_OFFSETS = (0, 0x40, 512, 1536, 4096, 64 * 1024, 128 * 1024, 192 * 1024, 1 << 20, (1 << 20) + 64 * 1024, 2 << 20)


def verdict(content: bytes, cuts: list[int]) -> Inspection | type[RefusedContentError]:
    inspector = Inspector(None, max_virtual_size=1 << 50)
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            inspector.feed(content[begin:end])
        return inspector.finish()
    except RefusedContentError as refusal:
        return type(refusal)


@given(
    content=st.sampled_from(CONTENTS),
    patches=st.lists(
        st.tuples(
            st.sampled_from(TABLE_OFFSETS),
            st.integers(0, 512),
            st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x7f" * 4])),
        ),
        max_size=4,
    ),
    cut_short=st.one_of(st.none(), st.integers(1, 3 << 20)),
    cuts=st.lists(st.integers(0, 3 << 20), max_size=3),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_spoiled_image_is_judged_alike_however_it_is_cut(
    content: bytes, patches: list[tuple[int, int, bytes]], cut_short: int | None, cuts: list[int]
) -> None:
    spoiled = bytearray(content)
    for base, offset, patch in patches:
        spoiled[base + offset : base + offset + len(patch)] = patch
    image = bytes(spoiled[:cut_short])
    within = sorted(min(cut, len(image)) for cut in cuts)
    assert verdict(image, within) == verdict(image, [])


@given(fields=st.lists(st.one_of(st.integers(0, 255), st.sampled_from([2**32 - 1, 2**63, 2**64 - 1])), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_numbers_behind_any_magic_lead_to_a_verdict(fields: list[int]) -> None:
    packed = b"".join(struct.pack("<Q" if value > 255 else "B", value % 2**64) for value in fields)
    for magic in MAGICS:
        outcome = verdict(magic + packed, [])
        assert isinstance(outcome, Inspection) or issubclass(outcome, RefusedContentError)


@given(content=st.binary(min_size=1, max_size=4096))
def test_any_bytes_lead_to_a_verdict(content: bytes) -> None:
    outcome = verdict(content, [])
    assert isinstance(outcome, Inspection) or issubclass(outcome, RefusedContentError)


@given(text=st.text(max_size=2000))
def test_any_descriptor_leads_to_a_verdict(text: str) -> None:
    outcome = verdict(vmdk(text.encode()[: 20 * 512]), [])
    assert isinstance(outcome, Inspection) or issubclass(outcome, RefusedContentError)


def test_refusal_comes_with_the_head_and_is_final() -> None:
    inspector = Inspector(None)
    content = qcow2(backing_file_offset=512, backing_file_size=4).ljust(HEAD_SIZE, b"\0")
    with pytest.raises(UnsafeBackingFileError):
        inspector.feed(content)
    with pytest.raises(UnsafeBackingFileError):
        inspector.feed(b"more")
    with pytest.raises(UnsafeBackingFileError):
        inspector.finish()


def test_stumbling_parser_is_a_malformed_image_and_keeps_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(_: object) -> None:
        struct.unpack("<Q", b"short")

    monkeypatch.setattr("tintype.inspect.formats.vhdx.check_header", stumble)
    inspector = Inspector(None)
    with pytest.raises(MalformedImageError) as refusal:
        inspector.feed(vhdx())
    assert isinstance(refusal.value.__cause__, struct.error)


@pytest.mark.parametrize("build", [*(build for build in BUILDERS if build is not stream_vmdk), lambda: bytes(4096)])
def test_memory_is_bounded_whatever_the_size(build: Callable[[], bytes]) -> None:
    content, bulk = build(), bytes(1 << 20)
    inspector = Inspector(None)
    tracemalloc.start()
    try:
        inspector.feed(content)
        for _ in range(256):
            inspector.feed(bulk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * (HEAD_SIZE + MAX_REGION_SIZE + TAIL_SIZE)


def test_memory_is_bounded_while_the_markers_of_a_stream_are_followed() -> None:
    content = stream_vmdk()
    before, grain, after = content[: 21 * 512], content[21 * 512 : 22 * 512], content[22 * 512 :]
    inspector = Inspector(None)
    tracemalloc.start()
    try:
        inspector.feed(before)
        for _ in range(16):
            inspector.feed(grain * 2048)
        inspector.feed(after)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * (HEAD_SIZE + MAX_REGION_SIZE + TAIL_SIZE)
    with pytest.raises(MalformedImageError, match="has no marker"):
        inspector.finish()


def test_memory_is_bounded_for_the_largest_tables() -> None:
    entries = MAX_REGION_SIZE // 8
    image = qcow2(l1_size=entries, size=entries * 512 * 4096)[: 3 * 4096]
    image += b"".join(struct.pack(">Q", (number + 1024) << 12) for number in range(entries))
    inspector = Inspector(None)
    tracemalloc.start()
    try:
        inspector.feed(image)
        with pytest.raises(TruncatedError):
            inspector.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("ratio", [None, 1 << 30])
def test_giant_disk_is_taken_if_the_site_allows_its_ratio(ratio: int | None) -> None:
    for declared, build in empty_giants():
        inspector = Inspector(declared, max_allocation_ratio=ratio)
        inspector.feed(build())
        assert inspector.finish().virtual_size == 5 << 38


def test_disk_up_to_the_floor_may_be_as_empty_as_it_likes() -> None:
    inspector = Inspector(DiskFormat.QCOW2, max_allocation_ratio=1)
    inspector.feed(qcow2(cluster_bits=16, size=ALLOCATION_RATIO_FLOOR, l1_size=2048, l1=(0,)))
    assert inspector.finish().virtual_size == ALLOCATION_RATIO_FLOOR


def test_empty_chunks_change_nothing() -> None:
    inspector = Inspector(DiskFormat.RAW)
    for chunk in (b"", b"disk", b""):
        inspector.feed(chunk)
    assert inspector.finish().virtual_size == 4


def test_crc32c_is_that_of_the_rfc() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283
