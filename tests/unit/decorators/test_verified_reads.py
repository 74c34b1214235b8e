"""Reads that prove what they give."""

from __future__ import annotations

import hashlib

import pytest

from tests.unit.decorators.failing_store import KEY, FailingStore, put, read
from tintype.adapters.decorators.verified_reads import VerifiedReads
from tintype.domain.errors import BlobDamagedError, InternalError
from tintype.domain.values import Blob, BlobRef, DiskFormat

DATA = b"0123456789abcdef"


def blob(algorithm: str = "sha256") -> Blob:
    digest = hashlib.new(algorithm, DATA, usedforsecurity=False).hexdigest()
    return Blob(BlobRef("main", KEY), len(DATA), {algorithm: digest}, DiskFormat.RAW, None, {})


async def verified(stored: bytes, expected: Blob) -> VerifiedReads:
    inner = FailingStore()
    await put(inner, stored)
    return VerifiedReads(inner, expected)


async def test_the_right_bytes_pass() -> None:
    store = await verified(DATA, blob())
    assert await read(store) == DATA
    assert await read(store, 3, 5) == DATA[3:8]
    assert await read(store, 0, 100) == DATA


@pytest.mark.parametrize("stored", [b"0123456789abcdeF", b"0123456789abcde", DATA + b"x", b""])
async def test_whoever_reads_others_never_gets_the_last_piece(stored: bytes) -> None:
    store = await verified(stored, blob())
    got: list[bytes] = []
    with pytest.raises(BlobDamagedError):
        await read_into(got, store)
    assert b"".join(got) == stored[: 4 * len(got)]
    assert not stored or len(b"".join(got)) < len(stored)


async def read_into(got: list[bytes], store: VerifiedReads) -> None:
    async for piece in store.read(KEY):
        got.append(piece)


async def test_a_part_must_be_whole() -> None:
    store = await verified(DATA[:8], blob())
    with pytest.raises(BlobDamagedError):
        await read(store, 4, 8)


async def test_bytes_without_a_digest_that_counts_prove_nothing() -> None:
    store = await verified(DATA, blob("md5"))
    with pytest.raises(InternalError):
        await read(store)
