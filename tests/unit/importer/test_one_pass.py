"""One pass: every digest, the inspection and the write agree on the same bytes, or nothing is kept."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator

import pytest

from services.importer.expectations import Expectations, SitePolicy
from services.importer.one_pass import MAX_IN_FLIGHT_SIZE, OnePass, replay, stage
from tintype.adapters.memory.store import MemoryImageStore
from tintype.disks.guest_digest import GuestDigester
from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import (
    DigestMismatchError,
    EmptyImageError,
    FormatMismatchError,
    ImageTooLargeError,
    SizeMismatchError,
    StoreFullError,
    TintypeError,
)
from tintype.domain.events import ImageCreated
from tintype.domain.evolve import fold
from tintype.domain.values import Blob, Digest, DiskFormat
from tintype.testing.clock import FakeClock
from tintype.testing.events import EventBuilder, an_id, an_image_id
from tintype.testing.handmade import qcow2

KEY = f"{an_image_id()}/{an_id('operation')}/source"
MIB = 1024 * 1024
DATA = random.Random(7).randbytes(3 * MIB + 5)


def expecting(**changes: object) -> Expectations:
    values: dict[str, object] = {
        "disk_format": DiskFormat.RAW,
        "algorithms": frozenset({"sha256"}),
        "max_size": 64 * MIB,
        "max_virtual_size": 1 << 40,
    }
    return Expectations(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def store() -> MemoryImageStore:
    return MemoryImageStore("main", FakeClock())


async def pieces(data: bytes, size: int = 300_000) -> AsyncGenerator[bytes, None]:
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


def silent(_: int) -> None:
    """Nobody watches."""


async def staged(store: MemoryImageStore, expectations: Expectations, data: bytes = DATA) -> Blob:
    return await stage(OnePass(expectations, await store.open_write(KEY)), pieces(data), "main", silent)


async def test_all_digests_are_of_the_bytes_that_were_kept(store: MemoryImageStore) -> None:
    told: list[int] = []
    one_pass = OnePass(expecting(algorithms=frozenset({"sha256", "sha512", "md5"})), await store.open_write(KEY))
    blob = await stage(one_pass, pieces(DATA), "main", told.append)
    kept = b"".join([piece async for piece in store.read(KEY)])
    assert kept == DATA
    assert blob.digests == {name: hashlib.new(name, DATA).hexdigest() for name in ("sha256", "sha512", "md5")}
    assert (blob.size, blob.disk_format, blob.ref.store, blob.ref.key) == (len(DATA), DiskFormat.RAW, "main", KEY)
    assert told[-1] == len(DATA)


async def test_views_are_taken_as_bytes_are(store: MemoryImageStore) -> None:
    one_pass = OnePass(expecting(), await store.open_write(KEY))
    await one_pass.feed(memoryview(DATA)[:100])
    await one_pass.feed(memoryview(DATA)[100:])
    assert (await one_pass.finish("main")).digests["sha256"] == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    ("expectations", "data", "error"),
    [
        (expecting(), b"", EmptyImageError),
        (expecting(size=len(DATA) + 1), DATA, SizeMismatchError),
        (expecting(size=len(DATA) - 1), DATA, SizeMismatchError),
        (expecting(size=0), b"x", SizeMismatchError),
        (expecting(max_size=len(DATA) - 1), DATA, ImageTooLargeError),
        (expecting(digest=Digest("sha256", "00" * 32)), DATA, DigestMismatchError),
        (expecting(disk_format=DiskFormat.QCOW2), DATA, FormatMismatchError),
    ],
)
async def test_other_bytes_than_expected_are_refused_and_not_kept(
    store: MemoryImageStore, expectations: Expectations, data: bytes, error: type[TintypeError]
) -> None:
    with pytest.raises(error):
        await staged(store, expectations, data)
    assert not store.committed
    assert not store.uncommitted


async def test_the_expected_bytes_are_taken(store: MemoryImageStore) -> None:
    digest = Digest("sha512", hashlib.sha512(DATA).hexdigest())
    await staged(store, expecting(size=len(DATA), digest=digest, algorithms=frozenset({"sha512"})))
    assert KEY in store.committed


async def test_a_store_that_runs_full_ends_the_pass() -> None:
    store = MemoryImageStore("small", FakeClock(), capacity=MIB)
    with pytest.raises(StoreFullError):
        await staged(store, expecting())
    assert not store.uncommitted


async def test_what_fails_at_the_source_leaves_nothing(store: MemoryImageStore) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield DATA
        raise SizeMismatchError("the source broke")

    with pytest.raises(SizeMismatchError, match="source broke"):
        await stage(OnePass(expecting(), await store.open_write(KEY)), broken(), "main", silent)
    assert not store.uncommitted


async def test_a_slow_store_holds_the_source_back(store: MemoryImageStore) -> None:
    gate = asyncio.Event()
    writer = await store.open_write(KEY)
    append = writer.append

    async def slow(data: bytes | memoryview) -> None:
        await gate.wait()
        await append(data)

    writer.append = slow  # type: ignore[method-assign]
    one_pass = OnePass(expecting(), writer)
    piece = bytes(range(256)) * 4096

    async def feed_all() -> None:
        for _ in range(40):
            await one_pass.feed(piece)

    feeding = asyncio.create_task(feed_all())
    while one_pass.offset < MAX_IN_FLIGHT_SIZE // 2:
        await asyncio.sleep(0)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert one_pass.offset <= MAX_IN_FLIGHT_SIZE
    gate.set()
    await feeding
    assert (await one_pass.finish("main")).size == 40 * MIB


async def test_a_cancelled_stream_can_be_gone_on_with(store: MemoryImageStore) -> None:
    one_pass = OnePass(expecting(), await store.open_write(KEY))
    half = len(DATA) // 2
    feeding = asyncio.create_task(one_pass.feed(DATA[:half]))
    await asyncio.sleep(0)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await one_pass.feed(DATA[one_pass.offset :])
    assert (await one_pass.finish("main")).digests["sha256"] == hashlib.sha256(DATA).hexdigest()


async def test_an_interrupted_pass_goes_on_in_another_one(store: MemoryImageStore) -> None:
    first = OnePass(expecting(), await store.open_write(KEY))
    await first.feed(DATA[:MIB])
    await first.close()
    writer = await store.open_write(KEY, resume=True)
    second = OnePass(expecting(), writer)
    await replay(second, store.read_uncommitted(KEY), writer.offset)
    await second.feed(DATA[MIB:])
    assert (await second.finish("main")).digests["sha256"] == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    ("properties", "digest", "wanted"),
    [
        ({}, None, {"sha256"}),
        ({"img_signature_hash_method": "SHA-512"}, None, {"sha256", "sha512"}),
        ({"img_signature_hash_method": "SHA-256"}, None, {"sha256"}),
        ({"img_signature_hash_method": "whirlpool"}, None, {"sha256"}),
        ({}, Digest("md5", "00" * 16), {"sha256", "md5"}),
    ],
)
def test_every_digest_that_somebody_will_ask_for_is_taken(
    properties: dict[str, str], digest: Digest | None, wanted: set[str]
) -> None:
    attributes = ImageAttributes(disk_format=DiskFormat.RAW, properties=properties)
    image = fold(EventBuilder().recorded([ImageCreated(attributes)]))
    assert image is not None
    policy = SitePolicy("sha256", MIB, MIB)
    assert policy.expectations(image, size=None, digest=digest).algorithms == wanted


# --- the guest's disk -------------------------------------------------------------------------------------------------


async def test_raw_disk_is_digested_in_the_same_pass(store: MemoryImageStore) -> None:
    sparse = DATA + bytes(3 * MIB + 77)
    expected = GuestDigester()
    expected.update(sparse)
    blob = await staged(store, expecting(), sparse)
    assert blob.guest_digest == expected.digest()


async def test_encrypted_raw_disk_is_digested_too(store: MemoryImageStore) -> None:
    blob = await staged(store, expecting(), b"LUKS\xba\xbe\x00\x01" + DATA)
    assert blob.guest_digest is not None


async def test_disk_in_another_format_is_not_digested_by_its_file(store: MemoryImageStore) -> None:
    blob = await staged(store, expecting(disk_format=DiskFormat.QCOW2), qcow2())
    assert blob.guest_digest is None
