"""The guest-disk digest against its test vectors, and against an implementation that shares nothing with ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.disks.memory_disk import MemoryDisk
from tests.unit.disks.naive import SparseTree, naive_digest
from tintype.disks.guest_digest import GuestDigester, digest_of
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import guest_digest
from tools.generate_docs import DOCS

CHUNK = 1024 * 1024
VECTORS: list[dict[str, Any]] = json.loads((DOCS / "guest-disk-digest-vectors.json").read_text())


def pieces(vector: dict[str, Any]) -> dict[int, bytes]:
    def repeated(text: str, length: int) -> bytes:
        return (text.encode("ascii") * (length // len(text) + 1))[:length]

    return {piece["offset"]: repeated(piece["text"], piece["length"]) for piece in vector["data"]}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_digester_computes_the_vectors(vector: dict[str, Any]) -> None:
    digester = GuestDigester()
    position = 0
    for offset, data in pieces(vector).items():
        digester.skip_zeros(offset - position)
        digester.update(data)
        position = offset + len(data)
    digester.skip_zeros(vector["size"] - position)
    digest = digester.digest()
    assert digest == vector["digest"]
    assert guest_digest(digest) == digest


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors_are_what_the_document_defines(vector: dict[str, Any]) -> None:
    if vector["size"] > 8 * CHUNK:
        assert SparseTree(vector["size"], pieces(vector)).digest() == vector["digest"]
        return
    disk = bytearray(vector["size"])
    for offset, data in pieces(vector).items():
        disk[offset : offset + len(data)] = data
    assert naive_digest(bytes(disk)) == vector["digest"]
    assert SparseTree(len(disk), pieces(vector)).digest() == vector["digest"]


# A disk as a list of pieces: zeros or a repeated byte, of lengths around the borders that matter.
LENGTHS = st.one_of(
    st.integers(0, 1500),
    st.sampled_from([511, 512, 513, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK]),
    st.integers(0, 2 * CHUNK),
)
PIECES = st.lists(st.tuples(LENGTHS, st.sampled_from([0, 0, 1, 255])), max_size=6)


@settings(deadline=None, max_examples=60)
@given(pieces=PIECES, as_zeros=st.booleans())
def test_digest_is_that_of_the_full_tree_however_it_is_fed(pieces: list[tuple[int, int]], as_zeros: bool) -> None:
    digester = GuestDigester()
    for length, byte in pieces:
        if as_zeros and not byte:
            digester.skip_zeros(length)
        else:
            digester.update(memoryview(bytes([byte]) * length))
    disk = b"".join(bytes([byte]) * length for length, byte in pieces)
    assert digester.digest() == naive_digest(disk)


@settings(deadline=None, max_examples=40)
@given(pieces=PIECES, bounds=st.lists(st.integers(0, 8 * CHUNK), max_size=8), tells_zeros=st.booleans())
def test_digest_of_a_disk_is_that_of_the_full_tree(
    pieces: list[tuple[int, int]], bounds: list[int], tells_zeros: bool
) -> None:
    data = b"".join(bytes([byte]) * length for length, byte in pieces)
    disk = MemoryDisk(data, bounds=bounds, tells_zeros=tells_zeros)
    assert digest_of(disk) == naive_digest(data)


@pytest.mark.parametrize("step", [1000, 65536, CHUNK - 7, CHUNK, 3 * CHUNK + 1])
def test_size_of_the_pieces_does_not_matter(step: int) -> None:
    disk = bytes(300_000) + b"data" * 500_000 + bytes(2 * CHUNK) + b"."
    digester = GuestDigester()
    for offset in range(0, len(disk), step):
        digester.update(disk[offset : offset + step])
    assert digester.digest() == naive_digest(disk)


@pytest.mark.parametrize("chunks", [*range(1, 10), 15, 16, 17, 31, 33])
def test_tree_over_any_number_of_chunks_is_that_of_rfc_6962(chunks: int) -> None:
    data = {index * CHUNK: bytes([index + 1]) for index in range(0, chunks, 3)}
    digester = GuestDigester()
    for offset in range(0, chunks * CHUNK, CHUNK):
        digester.update(data.get(offset, b""))
        digester.skip_zeros(CHUNK - len(data.get(offset, b"")))
    assert digester.digest() == SparseTree(chunks * CHUNK, data).digest()


def test_size_is_bound_to_the_digest() -> None:
    disk = b"boot" + bytes(3 * CHUNK - 4)
    assert len({naive_digest(disk[:size]) for size in (512, 1024, CHUNK, CHUNK + 512, 2 * CHUNK, 3 * CHUNK)}) == 6


def test_progress_rises_to_one() -> None:
    fractions: list[float] = []
    disk = MemoryDisk(bytes(20 * CHUNK) + b"x" * (20 * CHUNK + 5), bounds=[20 * CHUNK])
    digest_of(disk, on_progress=fractions.append)
    assert fractions == sorted(fractions)
    assert len(fractions) > 2
    assert fractions[-1] == 1.0


def test_what_the_reader_refuses_ends_the_digest() -> None:
    disk = MemoryDisk(b"x" * (40 * CHUNK), fails_at=33 * CHUNK)
    with pytest.raises(RefusedContentError, match="spoilt on purpose"):
        digest_of(disk)


def test_zeros_cannot_be_skipped_backwards() -> None:
    with pytest.raises(ValueError, match="-1"):
        GuestDigester().skip_zeros(-1)
