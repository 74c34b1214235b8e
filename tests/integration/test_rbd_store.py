"""The store in a Ceph pool, against a real Ceph: what its port's suite cannot ask."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.backends.ceph import Ceph
from tests.backends.rbd_store import RbdBackend, emptied, in_pool, rbd_settings
from tintype.adapters.rbd.store import RbdImageStore
from tintype.adapters.rbd.writer import RbdWriter
from tintype.adapters.stores import open_store
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobNotFoundError,
    ConfigurationError,
    StoreAccessDeniedError,
    StoreFullError,
    StoreMissingError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
    UploadBusyError,
)
from tintype.ports.image_store import Grade, ImageStore

pytestmark = pytest.mark.ceph

MIB = 1024 * 1024
IMAGE = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01"
OPERATION = "9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01"
KEY = f"{IMAGE}/{OPERATION}/source"
NAME = KEY.replace("/", ".")


@pytest.fixture
async def store(ceph: Ceph) -> AsyncIterator[RbdImageStore]:
    emptied(ceph)
    store = RbdImageStore("main", rbd_settings(ceph))
    yield store
    await store.aclose()


@pytest.fixture
async def backend(ceph: Ceph) -> AsyncIterator[RbdBackend]:
    backend = RbdBackend(ceph)
    yield backend
    await backend.aclose()


async def put(store: ImageStore, data: bytes, key: str = KEY) -> None:
    writer = await store.open_write(key)
    for begin in range(0, len(data), MIB):
        await writer.append(data[begin : begin + MIB])
    await writer.commit(size=len(data), digests={})


async def read(store: ImageStore) -> bytes:
    return b"".join([piece async for piece in store.read(KEY)])


def run(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def client(ceph: Ceph, user: str) -> tuple[str | Path, ...]:
    return ("-c", ceph.conf, "-n", f"client.{user}", "--keyring", ceph.keyring(user))


def some_disk() -> bytes:
    chance = random.Random(5)
    # Whole sectors: QEMU's driver ends in an assertion where an image of Ceph ends within one.
    return chance.randbytes(3 * MIB) + bytes(9 * MIB) + chance.randbytes(MIB + 512)


# --- what others see --------------------------------------------------------------------------------------------------


async def test_the_tools_of_ceph_and_qemu_read_the_same_bytes(store: RbdImageStore, ceph: Ceph, tmp_path: Path) -> None:
    data = some_disk()
    await put(store, data)

    run("rbd", *client(ceph, "tintype"), "export", "--no-progress", f"images/{NAME}@snap", tmp_path / "exported")
    assert hashlib.sha256((tmp_path / "exported").read_bytes()).digest() == hashlib.sha256(data).digest()

    source = f"rbd:images/{NAME}@snap:id=tintype:conf={ceph.conf}:keyring={ceph.keyring('tintype')}"
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", source, tmp_path / "converted")
    assert hashlib.sha256((tmp_path / "converted").read_bytes()).digest() == hashlib.sha256(data).digest()


async def test_another_user_clones_what_was_located_and_the_clone_outlives_the_image(
    store: RbdImageStore, ceph: Ceph, tmp_path: Path
) -> None:
    data = some_disk()
    await put(store, data)
    located = await store.locate(KEY, expires_in_s=60)
    assert located is not None
    assert located.url == f"rbd://{ceph.fsid}/images/{NAME}/snap"
    cinder = client(ceph, "cinder")
    run("rbd", *cinder, "clone", f"images/{NAME}@snap", "volumes/volume")

    await store.delete(KEY)

    with pytest.raises(BlobNotFoundError):
        await store.stat(KEY)
    assert in_pool(ceph) == [f"trash:{NAME}"]
    await put(store, b"the name is free")
    assert await read(store) == b"the name is free"
    run("rbd", *cinder, "export", "--no-progress", "volumes/volume", tmp_path / "volume")
    assert (tmp_path / "volume").read_bytes() == data

    run("rbd", *cinder, "rm", "--no-progress", "volumes/volume")
    assert [stored.size async for stored in store.list()] == [16]  # which also empties the trash
    assert in_pool(ceph) == [NAME]


async def test_zeros_take_no_room(store: RbdImageStore, ceph: Ceph) -> None:
    data = bytes(64 * MIB) + b"x" + bytes(64 * MIB - 1)
    await put(store, data)
    said = run("rbd", *client(ceph, "tintype"), "du", "--format", "json", f"images/{NAME}@snap")
    assert f'"used_size":{8 * MIB}' in said  # the one object with a byte in it
    assert (
        hashlib.sha256(await read(store)).digest()
        == hashlib.sha256(bytes(64 * MIB) + b"x" + bytes(64 * MIB - 1)).digest()
    )


async def test_who_reads_deleted_bytes_reads_them_to_their_end(store: RbdImageStore, ceph: Ceph) -> None:
    data = random.Random(3).randbytes(17 * MIB)
    await put(store, data)
    reading = store.read(KEY)
    seen = [await anext(reading)]

    await store.delete(KEY)
    assert [stored async for stored in store.list()] == []

    assert b"".join([*seen, *[piece async for piece in reading]]) == data
    assert [stored async for stored in store.list()] == []
    assert in_pool(ceph) == []


async def test_whatever_else_is_in_the_pool_is_left_alone(store: RbdImageStore, ceph: Ceph) -> None:
    user = client(ceph, "tintype")
    run("rbd", *user, "create", "--size", "1M", "images/of-somebody-else")
    run("rbd", *user, "create", "--size", "1M", "images/moved")
    run("rbd", *user, "trash", "mv", "images/moved")

    assert [stored async for stored in store.list()] == []

    assert in_pool(ceph) == ["of-somebody-else", "trash:moved"]


# --- killed -----------------------------------------------------------------------------------------------------------

_WRITER = """
import asyncio, pathlib, sys
from tintype.adapters.rbd.settings import RbdStoreSettings
from tintype.adapters.rbd.store import RbdImageStore
async def main():
    settings = RbdStoreSettings(
        type="rbd", conf_file=pathlib.Path(sys.argv[1]), keyring_file=pathlib.Path(sys.argv[2]), timeout_s=20
    )
    store = RbdImageStore("main", settings, record_every=4 * 1024 * 1024)
    writer = await store.open_write(sys.argv[3])
    for turn in range(5):
        await writer.append(bytes([65 + turn]) * 4 * 1024 * 1024)
    await writer.append(b"the tail")
    print(store.ceph_pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


async def killed_writer(ceph: Ceph, *, with_its_ceph_process: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, ceph.conf, ceph.keyring("tintype"), KEY],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        ceph_pid = int(await asyncio.to_thread(process.stdout.readline))
        if with_its_ceph_process:
            os.kill(ceph_pid, signal.SIGKILL)
        process.kill()


async def resumed(store: ImageStore) -> tuple[int, int]:
    """Where a write goes on from, once Ceph has missed its writer; and how often it was refused before."""
    for refused in range(10_000):
        try:
            writer = await store.open_write(KEY, resume=True)
        except UploadBusyError:
            await asyncio.sleep(0.05)  # nobody tells when a watch has lapsed
            continue
        offset = writer.offset
        await writer.append(b"END")
        await writer.commit(size=offset + 3, digests={})
        return offset, refused
    raise AssertionError("the writer that was killed keeps its lock")


def begun(size: int) -> bytes:
    return (b"".join(bytes([65 + turn]) * 4 * MIB for turn in range(5)) + b"the tail")[:size]


async def test_a_killed_writer_keeps_others_out_until_ceph_misses_it_and_loses_its_tail_at_most(
    store: RbdImageStore, ceph: Ceph
) -> None:
    await killed_writer(ceph, with_its_ceph_process=True)
    (left,) = [stored async for stored in store.list()]
    assert (left.is_committed, left.is_leased) == (False, True)
    with pytest.raises(BlobNotFoundError):
        await read(store)

    offset, refused = await resumed(store)

    assert refused > 0
    assert 16 * MIB <= offset <= 20 * MIB
    assert await read(store) == begun(offset) + b"END"


async def test_a_service_that_is_killed_leaves_a_ceph_process_that_keeps_every_byte(
    store: RbdImageStore, ceph: Ceph
) -> None:
    await killed_writer(ceph, with_its_ceph_process=False)

    offset, _ = await resumed(store)

    assert offset == 20 * MIB + 8
    assert await read(store) == begun(offset) + b"END"


async def test_a_ceph_process_that_is_killed_costs_what_was_open_and_nothing_else(store: RbdImageStore) -> None:
    await put(store, b"safe")
    writer = await store.open_write(KEY.replace("source", "output"))
    await writer.append(b"lost")
    assert store.ceph_pid is not None
    os.kill(store.ceph_pid, signal.SIGKILL)

    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=4, digests={})
    assert await read(store) == b"safe"


@pytest.mark.parametrize("stage", ["protected", "old one in the trash"])
async def test_a_replacement_that_was_killed_between_its_names_is_finished(
    store: RbdImageStore, ceph: Ceph, stage: str
) -> None:
    user = client(ceph, "tintype")
    await put(store, b"damaged")
    other = KEY.replace("source", "output")
    await put(store, b"sound", other)
    run("rbd", *user, "rename", f"images/{other.replace('/', '.')}", f"images/{NAME}.replacing")
    if stage == "old one in the trash":
        run("rbd", *user, "trash", "mv", f"images/{NAME}")
        assert await read(store) == b"sound"

    assert [(stored.key, stored.size) async for stored in store.list()] == [(KEY, 5)]

    assert await read(store) == b"sound"
    assert in_pool(ceph) == [NAME]


async def test_a_commit_that_was_killed_before_its_protection_is_not_visible_and_can_be_gone_on_with(
    store: RbdImageStore, ceph: Ceph
) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"half")
    await writer.close()
    run("rbd", *client(ceph, "tintype"), "snap", "create", "--no-progress", f"images/{NAME}@snap")
    with pytest.raises(BlobNotFoundError):
        await read(store)

    writer = await store.open_write(KEY, resume=True)
    await writer.append(b" whole")
    await writer.commit(size=10, digests={})

    assert await read(store) == b"half whole"


# --- when Ceph is ill -------------------------------------------------------------------------------------------------


async def test_a_full_cluster_is_named_so_can_be_deleted_from_and_takes_writes_again(backend: RbdBackend) -> None:
    store = await backend.open()
    await put(store, b"x" * MIB)
    await backend.fill()
    with pytest.raises(StoreFullError) as caught:
        await put(store, b"y" * 8 * MIB, KEY.replace("source", "output"))
    assert not isinstance(caught.value, StoreQuotaExceededError)
    assert any(finding.grade is Grade.BAD for finding in await store.examine())
    assert await read(store) == b"x" * MIB
    await store.delete(KEY)

    await backend.relieve()

    await put(store, b"z")
    assert await read(store) == b"z"


async def test_a_pool_over_its_quota_is_named_so(backend: RbdBackend, ceph: Ceph) -> None:
    store = await backend.open()
    await put(store, random.Random(1).randbytes(9 * MIB))
    ceph.set_quota("images", MIB)
    try:
        ceph.await_flag("images", "full_quota", True)
        with pytest.raises(StoreQuotaExceededError):
            await put(store, b"y" * MIB, KEY.replace("source", "output"))
        room = await store.space()
        assert room is not None and (room.free, room.total) == (0, MIB)
    finally:
        ceph.set_quota("images", 0)
        ceph.await_flag("images", "full_quota", False)


async def test_a_frozen_osd_is_a_timeout_and_nothing_is_lost_when_it_goes_on(backend: RbdBackend) -> None:
    store = await backend.open()
    data = random.Random(2).randbytes(9 * MIB)
    await put(store, data)
    other = KEY.replace("source", "output")
    writer = await store.open_write(other)
    await writer.append(b"half")
    await backend.freeze()
    for call in (lambda: read(store), store.check, lambda: writer.commit(size=4, digests={})):
        with pytest.raises(StoreTimeoutError):
            await call()

    await backend.thaw()

    assert await read(store) == data
    # Nobody knows what became of a commit that timed out: it took effect, or it did not, and never in part.
    assert await asked_again(store, other) == b"half"
    assert [stored.key async for stored in store.list() if stored.is_committed] == sorted([KEY, other])
    await store.delete(other)
    assert [stored.key async for stored in store.list()] == [KEY]


async def test_a_write_goes_on_after_an_outage_without_a_byte_lost_or_written_twice(ceph: Ceph) -> None:
    emptied(ceph)
    store = RbdImageStore("main", rbd_settings(ceph, timeout_s=1.0))
    data = random.Random(4).randbytes(48 * MIB)
    writer = await store.open_write(KEY)
    await writer.append(data[:MIB])
    ceph.freeze_osd()
    try:
        with pytest.raises(StoreTimeoutError):
            await append_rest(writer, data)
        reached = writer.offset
        with pytest.raises(StoreTimeoutError):
            await writer.append(data[reached : reached + MIB])
        assert writer.offset == reached
    finally:
        ceph.thaw_osd()

    while writer.offset < len(data):
        with suppress(StoreTimeoutError):  # of what was sent again while the OSD was still away
            await append_rest(writer, data)
    await writer.commit(size=len(data), digests={})

    assert hashlib.sha256(await read(store)).digest() == hashlib.sha256(data).digest()
    await store.aclose()


async def append_rest(writer: RbdWriter, data: bytes) -> None:
    while writer.offset < len(data):
        await writer.append(data[writer.offset : writer.offset + MIB])


async def asked_again(store: ImageStore, key: str) -> bytes:
    """Commit ``half`` under a key whose commit may have taken effect, or may still; the bytes that are there then."""
    while True:
        try:
            writer = await store.open_write(key)
            await writer.append(b"half")
            await writer.commit(size=4, digests={})
        except AlreadyExistsError:
            return b"".join([piece async for piece in store.read(key)])
        except (UploadBusyError, StoreUnavailableError):  # the first one is being ended
            await asyncio.sleep(0.05)


async def test_a_wrong_key_is_an_access_that_is_denied(backend: RbdBackend) -> None:
    store = await backend.open_with_wrong_credentials()
    with pytest.raises(StoreAccessDeniedError):
        await store.check()
    (finding,) = await store.examine()
    assert finding.grade is Grade.BAD


async def test_a_missing_pool_is_a_store_that_is_missing(backend: RbdBackend) -> None:
    store = await backend.open_with_missing_place()
    with pytest.raises(StoreMissingError):
        await store.check()


@pytest.mark.parametrize("setting", ["conf_file", "keyring_file"])
async def test_a_missing_file_is_told_by_its_setting_and_not_by_its_path(
    ceph: Ceph, tmp_path: Path, setting: str
) -> None:
    store = RbdImageStore("main", rbd_settings(ceph, **{setting: tmp_path / "nothing"}))
    with pytest.raises(StoreAccessDeniedError) as caught:
        await store.check()
    assert setting in caught.value.message and str(tmp_path) not in caught.value.message
    await store.aclose()


async def test_a_user_without_rights_is_told_which_step_failed(ceph: Ceph) -> None:
    store = RbdImageStore("main", rbd_settings(ceph, user="cinder", keyring_file=ceph.keyring("cinder")))
    (rights,) = [finding for finding in await store.examine() if finding.name == "rights"]
    assert rights.grade is Grade.BAD and "(create)" in rights.found and "profile rbd" in rights.advice
    with pytest.raises(StoreAccessDeniedError):
        await store.open_write(KEY)
    await store.aclose()


async def test_an_interpreter_without_the_bindings_is_a_configuration_error_that_says_what_to_install(
    ceph: Ceph, tmp_path: Path
) -> None:
    without = tmp_path / "python"
    without.write_text("#!/bin/sh\nexit 1\n")
    without.chmod(0o755)
    for python in (without, tmp_path / "nothing"):
        with pytest.raises(ConfigurationError, match="python3-rados and python3-rbd"):
            await open_store("main", rbd_settings(ceph, python=python))


@pytest.mark.parametrize("value", ["-1", "x", "99999999999999999999999", "1e3", "٣"])
async def test_a_strangers_metadata_say_nothing_about_how_much_is_there(
    store: RbdImageStore, ceph: Ceph, value: str
) -> None:
    writer = await store.open_write(KEY)
    await writer.append(b"half")
    await writer.close()
    run("rbd", *client(ceph, "tintype"), "image-meta", "set", f"images/{NAME}", "--", "tintype.offset", value)

    writer = await store.open_write(KEY, resume=True)

    assert 0 <= writer.offset <= 4
    await writer.abort()
    assert in_pool(ceph) == []


async def test_a_call_that_hangs_for_ever_costs_its_process_and_the_next_one_works(ceph: Ceph) -> None:
    emptied(ceph)
    store = RbdImageStore("main", rbd_settings(ceph, timeout_s=0.1))
    await store.check()
    hanging = store.ceph_pid
    assert hanging is not None
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(TintypeError):
        await store.check()
    await store.check()
    assert store.ceph_pid != hanging
    await store.aclose()
