"""Bytes that come compressed: what is stored is what was inside; what is checked against announcements is what came."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
from collections.abc import AsyncGenerator

import pytest

from services.importer.expectations import DECOMPRESSIBLE_FORMATS, Expectations, SitePolicy
from services.importer.import_pass import ImportPass, OpenWriter
from services.importer.one_pass import OnePass, replay, stage
from services.importer.plugins import ImportPlugins
from tintype.adapters.memory.store import MemoryImageStore
from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import (
    ArchiveContentError,
    DecompressionBombError,
    DigestMismatchError,
    EmptyImageError,
    FormatMismatchError,
    ImageTooLargeError,
    MalformedImageError,
    SizeMismatchError,
    StoreFullError,
    TintypeError,
    TruncatedError,
    UnsafeBackingFileError,
)
from tintype.domain.events import ImageCreated
from tintype.domain.evolve import fold
from tintype.domain.image import Image
from tintype.domain.values import Blob, ContainerFormat, Digest, DiskFormat
from tintype.inspect.compression.kinds import DECOMPRESSIBLE
from tintype.ports.image_store import BlobWriter
from tintype.testing.clock import FakeClock
from tintype.testing.events import EventBuilder, an_id, an_image_id
from tintype.testing.handmade import qcow2
from tintype.testing.hostile_compressed import COMPRESSORS, zipped

KEY = f"{an_image_id()}/{an_id('operation')}/source"
INNER_KEY = f"{KEY}-decompressed"
MIB = 1024 * 1024
DISK = random.Random(9).randbytes(600_000) + bytes(MIB) + b"tintype\n" * 60_000
COMPRESSED = {kind: compress(DISK) for kind, compress in COMPRESSORS.items()}


def expecting(**changes: object) -> Expectations:
    values: dict[str, object] = {
        "disk_format": DiskFormat.RAW,
        "algorithms": frozenset({"sha256", "sha512"}),
        "max_size": 16 * MIB,
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


async def imported(store: MemoryImageStore, data: bytes, expectations: Expectations | None = None) -> Blob:
    one_pass = ImportPass(expectations or expecting(), await store.open_write(KEY))
    return await stage(one_pass, pieces(data), "main", silent)


async def kept(store: MemoryImageStore, key: str = KEY) -> bytes:
    return b"".join([piece async for piece in store.read(key)])


def digests(data: bytes, *algorithms: str) -> dict[str, str]:
    return {name: hashlib.new(name, data).hexdigest() for name in algorithms}


@pytest.mark.parametrize("piece_size", [300_000, 999, 5])
@pytest.mark.parametrize("kind", sorted(DECOMPRESSIBLE))
async def test_what_was_inside_is_stored_and_what_came_is_told(
    kind: str, piece_size: int, store: MemoryImageStore
) -> None:
    content = DISK if piece_size > 999 else DISK[: piece_size * 300]
    came = COMPRESSED[kind] if piece_size > 999 else COMPRESSORS[kind](content)
    one_pass = ImportPass(expecting(size=len(came)), await store.open_write(KEY))
    told: list[int] = []
    blob = await stage(one_pass, pieces(came, piece_size), "main", told.append)
    assert await kept(store) == content
    assert (blob.size, blob.digests, blob.disk_format) == (len(content), digests(content, "sha256"), DiskFormat.RAW)
    assert (blob.facts["compression"].value, blob.facts["compression"].source) == (kind, "the first bytes as they came")
    assert one_pass.received is not None
    assert (one_pass.received.size, one_pass.received.compression) == (len(came), kind)
    assert one_pass.received.digests == digests(came, "sha256", "sha512")
    assert told[-1] == len(came)


@pytest.mark.parametrize("data", [b"x", b"a disk", DISK], ids=["one byte", "few", "many"])
async def test_what_is_not_compressed_is_stored_as_it_came(data: bytes, store: MemoryImageStore) -> None:
    one_pass = ImportPass(expecting(), await store.open_write(KEY))
    blob = await stage(one_pass, pieces(data), "main", silent)
    assert await kept(store) == data
    assert blob.digests == digests(data, "sha256", "sha512")
    assert one_pass.received is None


async def test_format_is_that_of_the_image_inside(store: MemoryImageStore) -> None:
    blob = await imported(store, gzip.compress(qcow2()), expecting(disk_format=DiskFormat.QCOW2))
    assert (blob.disk_format, blob.virtual_size) == (DiskFormat.QCOW2, MIB)


ZEROS = gzip.compress(bytes(20 * MIB))
REFUSED: dict[str, tuple[bytes, dict[str, object], type[TintypeError]]] = {
    "other digest of what came": (
        COMPRESSED["gzip"], {"digest": Digest("sha256", hashlib.sha256(DISK).hexdigest())}, DigestMismatchError,
    ),
    "size of what was inside": (gzip.compress(b"disk" * 999), {"size": 3996}, SizeMismatchError),
    "more than announced": (COMPRESSED["gzip"], {"size": 5}, SizeMismatchError),
    "more inside than the site takes": (ZEROS, {}, DecompressionBombError),
    "more coming than the site takes": (DISK, {"max_size": MIB}, ImageTooLargeError),
    "nothing": (b"", {}, EmptyImageError),
    "nothing inside": (gzip.compress(b""), {}, EmptyImageError),
    "cut": (COMPRESSED["gzip"][:-1], {}, TruncatedError),
    "damaged": (COMPRESSED["gzip"][:-5] + b"spam!", {}, MalformedImageError),
    "two files": (zipped(("a", b"a"), ("b", b"b")), {}, ArchiveContentError),
    "another format inside": (gzip.compress(qcow2()), {}, FormatMismatchError),
    "unsafe inside": (
        gzip.compress(qcow2(backing_file_offset=512, backing_file_size=4)),
        {"disk_format": DiskFormat.QCOW2},
        UnsafeBackingFileError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("name", REFUSED)
async def test_of_what_is_refused_nothing_is_left(name: str, is_kept: bool, store: MemoryImageStore) -> None:
    data, changes, error = REFUSED[name]
    writer = await store.open_write(KEY)
    one_pass = ImportPass(expecting(**changes), writer, opening(store) if is_kept else None)
    with pytest.raises(error):
        await stage(one_pass, pieces(data), "main", silent)
    assert [blob.key async for blob in store.list()] == []


async def test_full_store_ends_the_pass(store: MemoryImageStore) -> None:
    class Full:
        key = KEY
        offset = 0
        local_path = None

        def __init__(self, writer: BlobWriter) -> None:
            self.abort, self.close = writer.abort, writer.close

        async def append(self, data: bytes | memoryview) -> None:
            raise StoreFullError("full")

        async def commit(self, **_: object) -> None:
            raise StoreFullError("full")

    one_pass = ImportPass(expecting(), Full(await store.open_write(KEY)))
    with pytest.raises(StoreFullError):
        await stage(one_pass, pieces(COMPRESSED["gzip"]), "main", silent)
    assert [blob.key async for blob in store.list()] == []


# --- uploads whose compressed bytes are kept --------------------------------------------------------------------------


def opening(store: MemoryImageStore) -> OpenWriter:
    async def open_decompressed() -> BlobWriter:
        await store.delete(INNER_KEY)
        return await store.open_write(INNER_KEY)

    return open_decompressed


async def staging(store: MemoryImageStore, *, resume: bool = False) -> ImportPass:
    return ImportPass(expecting(), await store.open_write(KEY, resume=resume), opening(store))


@pytest.mark.parametrize("cut", [3, 20, 500_000, -1])
@pytest.mark.parametrize("kind", ["gzip", "xz", "zip"])
async def test_interrupted_upload_is_gone_on_with_in_compressed_bytes(
    kind: str, cut: int, store: MemoryImageStore
) -> None:
    came = COMPRESSED[kind]
    begun = came[:cut]
    first = await staging(store)
    for begin in range(0, len(begun), 100_000):
        await first.feed(begun[begin : begin + 100_000])
    assert first.offset == len(begun)
    await first.close()
    second = await staging(store, resume=True)
    await replay(second, store.read_uncommitted(KEY), len(begun))
    await second.feed(came[len(begun) :])
    blob = await second.finish("main")
    assert blob.ref.key == INNER_KEY
    assert await kept(store, INNER_KEY) == DISK
    assert second.received is not None
    assert second.received.digests == digests(came, "sha256", "sha512")


async def test_feeding_that_was_cancelled_took_its_piece_whole(store: MemoryImageStore) -> None:
    came = COMPRESSED["gzip"]
    one_pass = await staging(store)
    await one_pass.feed(came[:300_000])
    feeding = asyncio.create_task(one_pass.feed(came[300_000:]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    if one_pass.offset == 300_000:  # it had not begun
        await one_pass.feed(came[300_000:])
    assert one_pass.offset == len(came)
    await one_pass.finish("main")
    assert await kept(store, INNER_KEY) == DISK


async def test_abandoned_upload_leaves_nothing(store: MemoryImageStore) -> None:
    one_pass = await staging(store)
    await one_pass.feed(COMPRESSED["gzip"][:300_000])
    await one_pass.abort()
    await one_pass.abort()
    assert [blob.key async for blob in store.list()] == []


async def test_upload_that_is_not_compressed_is_kept_where_it_was_begun(store: MemoryImageStore) -> None:
    one_pass = await staging(store)
    await one_pass.feed(DISK)
    assert (await one_pass.finish("main")).ref.key == KEY


# --- containers that stay compressed ----------------------------------------------------------------------------------


async def contained(store: MemoryImageStore, data: bytes, **changes: object) -> Blob:
    one_pass = OnePass(expecting(is_compressed=True, **changes), await store.open_write(KEY))
    return await stage(one_pass, pieces(data, 1000), "main", silent)


@pytest.mark.parametrize("kind", sorted(DECOMPRESSIBLE))
async def test_compressed_container_is_stored_as_it_came_and_inspected_inside(
    kind: str, store: MemoryImageStore
) -> None:
    came = COMPRESSORS[kind](qcow2())
    blob = await contained(store, came, disk_format=DiskFormat.QCOW2)
    assert await kept(store) == came
    assert (blob.size, blob.digests) == (len(came), digests(came, "sha256", "sha512"))
    assert (blob.disk_format, blob.virtual_size) == (DiskFormat.QCOW2, MIB)
    assert blob.facts["compression"].value == kind


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (qcow2(), FormatMismatchError),
        (b"x", FormatMismatchError),
        (b"\x04\x22\x4d\x18" + bytes(100), FormatMismatchError),
        (COMPRESSED["gzip"], FormatMismatchError),
        (gzip.compress(qcow2())[:-1], TruncatedError),
        (gzip.compress(qcow2())[:7], TruncatedError),
        (gzip.compress(qcow2(backing_file_offset=512, backing_file_size=4)), UnsafeBackingFileError),
        (gzip.compress(qcow2() + bytes(20 * MIB)), DecompressionBombError),
    ],
    ids=["bare", "one byte", "lz4", "raw inside", "cut", "nothing but a header", "unsafe inside", "bomb"],
)
async def test_compressed_container_is_judged_by_what_is_inside(
    data: bytes, error: type[TintypeError], store: MemoryImageStore
) -> None:
    with pytest.raises(error):
        await contained(store, data, disk_format=DiskFormat.QCOW2)
    assert [blob.key async for blob in store.list()] == []


# --- what is decompressed ---------------------------------------------------------------------------------------------


def image_of(disk_format: DiskFormat, container_format: ContainerFormat) -> Image:
    attributes = ImageAttributes(disk_format=disk_format, container_format=container_format)
    image = fold(EventBuilder().recorded([ImageCreated(attributes)]))
    assert image is not None
    return image


@pytest.mark.parametrize("disk_format", list(DiskFormat))
def test_disks_and_isos_are_decompressed_and_what_is_compressed_by_its_own_right_is_not(
    disk_format: DiskFormat,
) -> None:
    policy = SitePolicy("sha256", 100, 200)
    is_disk = disk_format not in {"aki", "ari", "ami", "ova", "docker"}
    assert policy.decompresses(image_of(disk_format, ContainerFormat.BARE)) is is_disk
    assert (disk_format in DECOMPRESSIBLE_FORMATS) is is_disk
    assert not policy.decompresses(image_of(disk_format, ContainerFormat.COMPRESSED))
    assert not policy.decompresses(image_of(disk_format, ContainerFormat.OVA))
    off = SitePolicy("sha256", 100, 200, plugins=ImportPlugins(decompression=False))
    assert not off.decompresses(image_of(disk_format, ContainerFormat.BARE))


def test_format_of_an_appliance_is_that_of_its_archive() -> None:
    policy = SitePolicy("sha256", 100, 200)
    expected = policy.expectations(image_of(DiskFormat.VMDK, ContainerFormat.OVA), size=None, digest=None)
    assert expected.disk_format is DiskFormat.OVA
    assert (
        SitePolicy("sha256", 1, 2, 3)
        .expectations(image_of(DiskFormat.RAW, ContainerFormat.BARE), size=None, digest=None)
        .max_allocation_ratio
        == 3
    )
    contained = policy.expectations(image_of(DiskFormat.VMDK, ContainerFormat.COMPRESSED), size=None, digest=None)
    assert (contained.disk_format, contained.is_compressed) == (DiskFormat.VMDK, True)
