"""The promises of ports/image_store.py, asked of every store."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.image_stores import Opening, params
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.filesystem.threads import FileThreads
from tintype.adapters.memory.store import MemoryImageStore
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobDamagedError,
    BlobNotFoundError,
    InvalidIdentifierError,
    StoreFullError,
    StoreUnavailableError,
    UploadBusyError,
)
from tintype.ports.image_store import Grade, ImageStore, StoredBlob, StoreMode
from tintype.runtime.clock import SystemClock

IMAGE = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01"
OTHER_IMAGE = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a02"
OPERATION = "9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01"
KEY = f"{IMAGE}/{OPERATION}/source"
MIB = 1024 * 1024


@pytest.fixture(params=params())
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ImageStore]:
    opening: Opening = request.param
    async with opening(request, tmp_path) as opened:
        yield opened


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[FileImageStore]:
    store = FileImageStore("main", tmp_path / "store")
    await store.prepare()
    yield store
    await store.aclose()


async def read(store: ImageStore, key: str = KEY, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(key, offset=offset, length=length)])


async def read_uncommitted(store: ImageStore) -> bytes:
    return b"".join([piece async for piece in store.read_uncommitted(KEY)])


async def put(store: ImageStore, data: bytes, key: str = KEY) -> None:
    writer = await store.open_write(key)
    await writer.append(data)
    await writer.commit(size=len(data), digests={})


async def listed(store: ImageStore, prefix: str = "") -> list[StoredBlob]:
    return [stored async for stored in store.list(prefix)]


async def test_bytes_are_invisible_until_they_are_committed(store: ImageStore) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"half")
    with pytest.raises(BlobNotFoundError):
        await read(store)
    await writer.append(memoryview(b" and half"))
    await writer.commit(size=13, digests={})
    assert await read(store) == b"half and half"
    assert (await store.stat(KEY)).is_committed


async def test_any_range_can_be_read(store: ImageStore) -> None:
    data = random.Random(1).randbytes(2 * MIB + 17)
    await put(store, data)
    assert await read(store) == data
    assert await read(store, offset=MIB - 1, length=MIB + 2) == data[MIB - 1 : 2 * MIB + 1]
    assert await read(store, offset=len(data) - 3) == data[-3:]
    assert await read(store, offset=len(data)) == b""
    assert await read(store, offset=5, length=0) == b""
    assert max([len(piece) async for piece in store.read(KEY)]) <= MIB


async def test_zeros_are_bytes_as_well(store: ImageStore) -> None:
    data = bytes(MIB) + b"x" + bytes(5000) + bytes(2 * MIB)
    writer = await store.open_write(KEY)
    for begin in range(0, len(data), MIB):
        await writer.append(data[begin : begin + MIB])
    assert writer.offset == len(data)
    await writer.commit(size=len(data), digests={})
    assert await read(store) == data


async def test_an_aborted_write_leaves_nothing(store: ImageStore) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"x")
    await writer.abort()
    await writer.abort()
    assert await listed(store) == []
    await put(store, b"again")
    assert await read(store) == b"again"


async def test_an_interrupted_write_goes_on_behind_what_is_there(
    store: ImageStore,
) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"first ")
    await writer.close()
    assert await read_uncommitted(store) == b"first "
    assert [(blob.size, blob.is_committed) for blob in await listed(store)] == [(6, False)]
    writer = await store.open_write(KEY, resume=True)
    assert writer.offset == 6
    await writer.append(b"second")
    await writer.commit(size=12, digests={})
    assert await read(store) == b"first second"
    with pytest.raises(BlobNotFoundError):
        await read_uncommitted(store)


async def test_a_new_write_begins_from_nothing_where_one_was_abandoned(
    store: ImageStore,
) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"abandoned")
    await writer.close()
    await put(store, b"new")
    assert await read(store) == b"new"


async def test_nothing_can_be_resumed_where_nothing_was_begun(
    store: ImageStore,
) -> None:
    with pytest.raises(BlobNotFoundError):
        await store.open_write(KEY, resume=True)


async def test_a_key_has_one_writer(store: ImageStore) -> None:
    writer = await store.open_write(KEY)
    for resume in (False, True):
        with pytest.raises(UploadBusyError):
            await store.open_write(KEY, resume=resume)
    await writer.append(b"mine")
    await writer.close()
    assert (await store.open_write(KEY, resume=True)).offset == 4


async def test_committed_bytes_are_never_replaced(store: ImageStore) -> None:
    await put(store, b"for ever")
    for resume in (False, True):
        with pytest.raises(AlreadyExistsError):
            await store.open_write(KEY, resume=resume)
    assert await read(store) == b"for ever"
    assert len(await listed(store)) == 1


async def test_a_commit_of_another_size_is_refused_and_leaves_nothing(
    store: ImageStore,
) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"123")
    with pytest.raises(BlobDamagedError):
        await writer.commit(size=4, digests={})
    assert await listed(store) == []


async def test_a_writer_whose_bytes_were_swept_cannot_commit(store: ImageStore) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"123")
    await store.delete(KEY)
    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=3, digests={})
    assert await listed(store) == []


async def test_a_swept_writer_does_not_touch_its_successor(store: ImageStore) -> None:
    swept = await store.open_write(KEY)
    await swept.append(b"old")
    await store.delete(KEY)
    successor = await store.open_write(KEY)
    await successor.append(b"new")
    with pytest.raises(StoreUnavailableError):
        await swept.commit(size=3, digests={})
    await successor.commit(size=3, digests={})
    assert await read(store) == b"new"


async def test_deleting_removes_both_kinds_and_is_repeatable(store: ImageStore) -> None:
    await put(store, b"x")
    writer = await store.open_write(KEY.replace("source", "output"))
    await writer.close()
    for key in (KEY, writer.key):
        await store.delete(key)
        await store.delete(key)
        with pytest.raises(BlobNotFoundError):
            await store.stat(key)
    assert await listed(store) == []


async def test_a_list_is_of_one_image_or_of_all(store: ImageStore) -> None:
    other = KEY.replace(IMAGE, OTHER_IMAGE)
    await put(store, b"1")
    await put(store, b"22", other)
    assert {blob.key for blob in await listed(store)} == {KEY, other}
    assert [blob.key for blob in await listed(store, OTHER_IMAGE)] == [other]
    with pytest.raises(InvalidIdentifierError):
        await listed(store, "../..")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "/etc/passwd",
        f"{IMAGE}/{OPERATION}",
        f"{IMAGE}/{OPERATION}/",
        f"{IMAGE}/{OPERATION}/..",
        f"{IMAGE}/{OPERATION}/.hidden",
        f"{IMAGE}/{OPERATION}/a/b",
        f"{IMAGE}/../{OPERATION}/a",
        f"{IMAGE.upper()}/{OPERATION}/a",
        f"{IMAGE}/{OPERATION}/a\n",
        f"{IMAGE}/{OPERATION}/a\0",
        f"{IMAGE}/{OPERATION}/{'a' * 65}",
        f"{IMAGE}/{OPERATION}/ä",
    ],
)
async def test_other_keys_are_refused(store: ImageStore, key: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        await store.open_write(key)
    with pytest.raises(InvalidIdentifierError):
        await store.stat(key)
    with pytest.raises(InvalidIdentifierError):
        await store.delete(key)
    with pytest.raises(InvalidIdentifierError):
        await read(store, key)


async def test_a_store_that_works_says_so(store: ImageStore) -> None:
    await store.check()
    assert await listed(store) == []
    assert store.state.mode is StoreMode.READ_WRITE
    findings = await store.examine()
    assert findings
    assert [finding for finding in findings if finding.grade is Grade.BAD] == []


async def test_a_writer_that_lives_is_told_of_in_lists(store: ImageStore) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"half")
    assert [blob.is_leased for blob in await listed(store)] == [True]
    await writer.close()
    assert [blob.is_leased for blob in await listed(store)] == [False]
    writer = await store.open_write(KEY, resume=True)
    await writer.commit(size=4, digests={})
    assert [blob.is_leased for blob in await listed(store)] == [False]


async def test_only_committed_bytes_can_be_located(store: ImageStore) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"half")
    with pytest.raises(BlobNotFoundError):
        await store.locate(KEY, expires_in_s=60)
    await writer.commit(size=4, digests={})
    location = await store.locate(KEY, expires_in_s=60)
    assert (location.kind if location else None) is store.capabilities.handover


async def test_room_is_told_where_there_is_such_a_thing(store: ImageStore) -> None:
    space = await store.space()
    assert space is None or 0 <= space.free <= space.total


async def test_a_replacement_takes_its_place_at_the_commit_and_not_before(store: ImageStore) -> None:
    await put(store, b"damaged")
    writer = await store.open_write(KEY, replace=True)
    await writer.append(b"sound, and longer")
    assert await read(store) == b"damaged"
    await writer.abort()
    assert await read(store) == b"damaged"
    writer = await store.open_write(KEY, replace=True)
    await writer.append(b"sound, and longer")
    reading = store.read(KEY)
    begun = await anext(reading)
    await writer.commit(size=17, digests={})
    assert begun + b"".join([piece async for piece in reading]) == b"damaged"
    assert await read(store) == b"sound, and longer"
    assert [(blob.size, blob.is_committed) for blob in await listed(store)] == [(17, True)]


async def test_an_abandoned_write_is_removed_by_one_who_replaces_it_and_gives_up(store: ImageStore) -> None:
    """That is how a sweep removes it: under nobody's hands, and not with what is committed under the same key."""
    for is_committed in (False, True):
        if is_committed:
            await put(store, b"sound")
        writer = await store.open_write(KEY, replace=is_committed)
        await writer.append(b"abandoned")
        await writer.close()
        assert False in [blob.is_committed for blob in await listed(store)]

        await (await store.open_write(KEY, replace=True)).abort()

        assert [blob.is_committed for blob in await listed(store)] == [True] * is_committed
    assert await read(store) == b"sound"


# --- what only files can get wrong ------------------------------------------------------------------------------------


def everything_below(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


async def test_no_empty_directory_is_left(files: FileImageStore, tmp_path: Path) -> None:
    await put(files, b"x")
    await files.delete(KEY)
    writer = await files.open_write(KEY)
    await writer.abort()
    assert everything_below(tmp_path / "store") == {"blobs", "uncommitted"}


async def test_zero_blocks_take_no_room(files: FileImageStore) -> None:
    writer = await files.open_write(KEY)
    for _ in range(8):
        await writer.append(bytes(MIB))
    await writer.commit(size=8 * MIB, digests={})
    path = files.local_path(KEY)
    assert path is not None
    assert path.stat().st_blocks * 512 < MIB


async def test_symbolic_links_are_not_followed(files: FileImageStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "source").write_bytes(b"secret")
    for area in ("blobs", "uncommitted"):
        directory = tmp_path / "store" / area / IMAGE
        directory.mkdir()
        (directory / OPERATION).symlink_to(outside)
    with pytest.raises(StoreUnavailableError):
        await read(files)
    with pytest.raises(StoreUnavailableError):
        await files.open_write(KEY)
    for area in ("blobs", "uncommitted"):
        (tmp_path / "store" / area / IMAGE / OPERATION).unlink()
        (tmp_path / "store" / area / IMAGE / OPERATION).mkdir()
        (tmp_path / "store" / area / IMAGE / OPERATION / "source").symlink_to(outside / "source")
    with pytest.raises(StoreUnavailableError):
        await read(files)
    assert (outside / "source").read_bytes() == b"secret"


async def test_a_program_that_writes_the_file_itself_can_be_committed(
    files: FileImageStore,
) -> None:
    writer = await files.open_write(KEY)
    assert writer.local_path is not None
    writer.local_path.write_bytes(b"by another program")
    await writer.commit(size=18, digests={})
    assert await read(files) == b"by another program"


async def test_a_commit_that_was_killed_between_its_two_names_is_finished(
    files: FileImageStore, tmp_path: Path
) -> None:
    await put(files, b"x")
    spare = tmp_path / "store/uncommitted" / KEY
    spare.parent.mkdir(parents=True)
    os.link(tmp_path / "store/blobs" / KEY, spare)
    assert [blob.is_committed for blob in await listed(files)] == [True]
    assert not spare.exists()


async def test_a_killed_writer_leaves_its_bytes_and_no_lock(files: FileImageStore, tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tintype.adapters.filesystem.store import FileImageStore\n"
        "async def main():\n"
        "    writer = await FileImageStore('main', Path(sys.argv[1])).open_write(sys.argv[2])\n"
        "    await writer.append(b'survives')\n"
        "    print('written', flush=True)\n"
        "    await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "store"), KEY],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"written\n"
        with pytest.raises(UploadBusyError):
            await files.open_write(KEY, resume=True)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    writer = await files.open_write(KEY, resume=True)
    assert writer.offset == 8
    await writer.commit(size=8, digests={})
    assert await read(files) == b"survives"


async def test_a_full_file_system_is_named_so(files: FileImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> int:
        raise OSError(28, "No space left on device", "/secret/path")

    writer = await files.open_write(KEY)
    monkeypatch.setattr(os, "pwrite", no_room)
    with pytest.raises(StoreFullError) as caught:
        await writer.append(b"x")
    assert "/secret/path" not in caught.value.message
    await writer.abort()
    assert await listed(files) == []


async def test_a_disk_that_fails_at_the_very_end_leaves_nothing(
    files: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(5, "Input/output error", "/secret/path")

    writer = await files.open_write(KEY)
    await writer.append(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StoreUnavailableError) as caught:
            await writer.commit(size=1, digests={})
    assert "/secret/path" not in caught.value.message
    assert await listed(files) == []


async def test_a_cancelled_append_is_over_before_its_file_is_closed(
    files: FileImageStore,
) -> None:
    writer = await files.open_write(KEY)
    task = asyncio.create_task(writer.append(b"x" * MIB))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await writer.abort()
    assert await listed(files) == []


async def test_a_cancelled_opening_keeps_no_lock(files: FileImageStore) -> None:
    writer = await files.open_write(KEY)
    await writer.append(b"half")
    await writer.close()
    opening = asyncio.create_task(files.open_write(KEY, resume=True))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    writer = await files.open_write(KEY, resume=True)
    assert writer.offset == 4
    await writer.abort()


async def test_a_cancelled_read_keeps_no_file_open(files: FileImageStore) -> None:
    await put(files, b"whole")
    before = len(os.listdir("/proc/self/fd"))
    reading = asyncio.ensure_future(anext(files.read(KEY)))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_check_is_cancelled_even_together_with_its_answer(
    files: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for turns in range(8):
        answer = asyncio.get_running_loop().create_future()

        async def probe(_: object, answer: asyncio.Future[None] = answer) -> None:
            await answer

        monkeypatch.setattr(FileThreads, "run", probe)
        check = asyncio.create_task(files.check())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answer.set_result(None)
        for _ in range(turns):
            await asyncio.sleep(0)
        if check.cancel():
            with pytest.raises(asyncio.CancelledError):
                await check
    monkeypatch.undo()


async def test_a_short_write_is_gone_on_with_where_only_zeros_are_left(
    files: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    data = b"x" * 1000 + bytes(100_000)
    writer = await files.open_write(KEY)
    monkeypatch.setattr(os, "pwrite", lambda descriptor, view, offset: whole(descriptor, view[:1000], offset))
    await writer.append(data)
    assert writer.offset == len(data)
    await writer.commit(size=len(data), digests={})
    assert await read(files) == data


async def test_a_store_whose_directory_is_gone_says_so(files: FileImageStore, tmp_path: Path) -> None:
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailableError):
        await files.check()
    with pytest.raises(StoreUnavailableError):
        await files.open_write(KEY)


async def test_reading_can_be_given_up_in_the_middle(files: FileImageStore) -> None:
    await put(files, bytes(range(256)) * 4096 * 3)
    before = len(os.listdir("/proc/self/fd"))
    pieces = files.read(KEY)
    assert len(await anext(pieces)) == MIB
    await pieces.aclose()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_memory_store_can_be_full() -> None:
    store = MemoryImageStore("small", SystemClock(), capacity=4)
    writer = await store.open_write(KEY)
    with pytest.raises(StoreFullError):
        await writer.append(b"12345")
    await writer.abort()
    assert await listed(store) == []


async def replace(store: ImageStore, data: bytes, *, size: int | None = None) -> None:
    writer = await store.open_write(KEY, replace=True)
    await writer.append(data)
    await writer.commit(size=len(data) if size is None else size, digests={})


async def test_a_replacement_takes_the_place_of_the_bytes_at_its_commit(store: ImageStore) -> None:
    await put(store, b"damaged")
    writer = await store.open_write(KEY, replace=True)
    await writer.append(b"sound")
    assert await read(store) == b"damaged"
    assert (await store.stat(KEY)).size == 7

    await writer.commit(size=5, digests={})

    assert await read(store) == b"sound"
    assert [(stored.size, stored.is_committed) for stored in await listed(store)] == [(5, True)]


async def test_a_replacement_that_is_given_up_changes_nothing(store: ImageStore) -> None:
    await put(store, b"damaged")
    writer = await store.open_write(KEY, replace=True)
    await writer.append(b"sound")
    await writer.abort()
    with pytest.raises(BlobDamagedError):
        await replace(store, b"sound", size=6)

    assert await read(store) == b"damaged"
    assert [stored.is_committed for stored in await listed(store)] == [True]


async def test_a_replacement_of_bytes_that_are_gone_makes_them_anew(store: ImageStore) -> None:
    await replace(store, b"sound")

    assert await read(store) == b"sound"


async def test_who_reads_while_bytes_are_replaced_reads_the_old_ones_to_their_end(store: ImageStore) -> None:
    old = random.Random(1).randbytes(3 * MIB)
    await put(store, old)
    reading = store.read(KEY)
    seen = [await anext(reading)]

    await replace(store, b"sound")

    assert b"".join([*seen, *[piece async for piece in reading]]) == old


async def test_a_replacement_has_one_writer(store: ImageStore) -> None:
    await put(store, b"damaged")
    writer = await store.open_write(KEY, replace=True)
    with pytest.raises(UploadBusyError):
        await store.open_write(KEY, replace=True)
    await writer.close()

    await replace(store, b"sound")
    assert await read(store) == b"sound"


async def test_a_replacement_of_bytes_that_are_deleted_meanwhile_fails(store: ImageStore) -> None:
    await put(store, b"damaged")
    writer = await store.open_write(KEY, replace=True)
    await writer.append(b"sound")
    await store.delete(KEY)

    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=5, digests={})
    assert await listed(store) == []


@pytest.mark.parametrize("leftover", ["linked", "renamed"])
async def test_a_replacement_that_was_killed_between_its_names_is_gone_on_from(
    files: FileImageStore, tmp_path: Path, leftover: str
) -> None:
    """Its file has two names then: the uncommitted one, and one beside or in the committed one's place."""
    await put(files, b"damaged")
    writer = await files.open_write(KEY, replace=True)
    await writer.append(b"sound")
    await writer.close()
    uncommitted, committed = tmp_path / "store/uncommitted" / KEY, tmp_path / "store/blobs" / KEY
    beside = committed.with_name(f".{committed.name}.replacing")
    os.link(uncommitted, beside)
    if leftover == "renamed":
        beside.rename(committed)
    expected = b"sound" if leftover == "renamed" else b"damaged"

    again = await files.open_write(KEY, replace=True)
    assert await read(files) == expected  # above all: opening for writing has not emptied what is committed
    await again.append(b"sound again")
    await again.commit(size=11, digests={})

    assert await read(files) == b"sound again"
    await files.delete(KEY)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_bytes_that_the_disk_cannot_read_are_damaged(
    files: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(files, b"bytes")

    def bad_sector(descriptor: int, count: int, position: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", bad_sector)
    with pytest.raises(BlobDamagedError):
        await read(files)


async def test_what_comes_before_unreadable_bytes_is_given(
    files: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(files, bytes(4 * MIB))
    whole = os.pread

    def bad_sector(descriptor: int, count: int, position: int) -> bytes:
        if position == 2 * MIB:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return whole(descriptor, count, position)

    monkeypatch.setattr(os, "pread", bad_sector)
    pieces = files.read(KEY)
    assert sum([len(await anext(pieces)) for _ in range(2)]) == 2 * MIB
    with pytest.raises(BlobDamagedError):
        await anext(pieces)


async def test_a_replacement_that_is_killed_at_any_instruction_leaves_whole_bytes(
    files: FileImageStore, tmp_path: Path
) -> None:
    size = 300_000
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tintype.adapters.filesystem.store import FileImageStore\n"
        "async def main():\n"
        "    store = FileImageStore('main', Path(sys.argv[1]))\n"
        "    for turn in range(10**9):\n"
        "        writer = await store.open_write(sys.argv[2], replace=True)\n"
        f"        for _ in range(3): await writer.append(bytes([65 + turn % 2]) * {size // 3})\n"
        f"        await writer.commit(size={size}, digests={{}})\n"
        "        print(turn, flush=True)\n"
        "asyncio.run(main())\n"
    )
    await put(files, b"A" * size)
    chance = random.Random(9)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "store"), KEY],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            assert process.stdout is not None
            for _ in range(chance.randint(1, 5)):
                await asyncio.to_thread(process.stdout.readline)
            for _ in range(chance.randint(0, 20_000)):  # any instruction of the next turn
                pass
            process.send_signal(signal.SIGKILL)
        assert await read(files) in (b"A" * size, b"B" * size)
        await replace(files, b"A" * size)
        assert await read(files) == b"A" * size
        assert [stored.is_committed for stored in await listed(files)] == [True]
