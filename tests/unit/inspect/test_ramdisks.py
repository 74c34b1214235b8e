"""Ramdisks: what is counted while archives pass by, and at what cost."""

from __future__ import annotations

import tracemalloc

import pytest

from tintype.domain.errors import TruncatedError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspector
from tintype.testing.handmade_boot import cpio_archive, cpio_entry


def facts_of(content: bytes, chunk_size: int = 1 << 20) -> dict[str, PropertyValue]:
    inspector = Inspector(DiskFormat.ARI)
    for offset in range(0, len(content), chunk_size):
        inspector.feed(content[offset : offset + chunk_size])
    return {key: fact.value for key, fact in inspector.finish().facts.items()}


@pytest.mark.parametrize("chunk_size", [1 << 20, 16_384, 977])
def test_entries_are_counted_however_the_bytes_are_cut(chunk_size: int) -> None:
    entries = [cpio_entry(b"n" * (number % 200 + 1), b"x" * (number * 37 % 5000)) for number in range(500)]
    facts = facts_of(cpio_archive(*entries) + bytes(508) + cpio_archive(), chunk_size)
    assert (facts["ari_entries"], facts["ari_archives"]) == (501, 2)


def test_file_larger_than_what_is_kept_is_stepped_over() -> None:
    facts = facts_of(cpio_archive(cpio_entry(b"big", bytes(3 << 20)), cpio_entry(b"small")))
    assert facts["ari_entries"] == 2


def test_names_with_control_characters_are_counted() -> None:
    names = (b"fine", b"escape\x1b[2J", b"line\nbreak", b"nul\0inside", "caf\u00e9".encode())
    assert facts_of(cpio_archive(*map(cpio_entry, names)))["ari_odd_names"] == 3


def test_archive_of_either_newc_form_is_walked() -> None:
    assert facts_of(cpio_archive().replace(b"070701", b"070702"))["ari_entries"] == 1


@pytest.mark.parametrize("length", range(1, 124, 11))
def test_trailer_that_is_cut_is_noticed(length: int) -> None:
    with pytest.raises(TruncatedError):
        facts_of(cpio_archive()[:-length])


def test_memory_is_bounded_whatever_the_archive_holds() -> None:
    header = cpio_entry(b"big", file_size=256 << 20)
    inspector, bulk = Inspector(DiskFormat.ARI), bytes(1 << 20)
    tracemalloc.start()
    try:
        inspector.feed(header)
        for _ in range(256):
            inspector.feed(bulk)
        inspector.feed(cpio_archive())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert inspector.finish().facts["ari_entries"].value == 2
    assert peak < 4 << 20
