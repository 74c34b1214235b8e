"""Every fault, and what a store must tell while it lasts; :class:`Scene` is what is there before and must be after."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.importer.copy_reading import CopyReading
from tests.backends.store_backend import StoreBackend
from tintype.adapters.decorators.verified_reads import VerifiedReads
from tintype.domain.errors import BlobDamagedError, TintypeError
from tintype.domain.values import Blob, BlobRef, DiskFormat
from tintype.ports.image_store import ImageStore
from tintype.runtime.token_bucket import TokenBucket

KEPT = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/kept"
VICTIM = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a02/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b02/victim"
MIB = 1024 * 1024
DATA = random.Random(5).randbytes(2 * MIB + 17)

_WRITER = """
import asyncio, sys, tomllib
from pydantic import TypeAdapter
from tintype.adapters.store_settings import StoreSettings
from tintype.adapters.stores import open_store
async def main():
    with open(sys.argv[1], "rb") as file:
        settings = TypeAdapter(StoreSettings).validate_python(tomllib.load(file)["stores"]["main"])
    writer = await (await open_store("main", settings)).open_write(sys.argv[2])
    for _ in range(6):
        await writer.append(bytes(range(256)) * 4096)
    print("written", flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


NOBODY = ""
"""Instead of a reason, where nobody was left to be told."""


class NothingToldError(AssertionError):
    """A call succeeded that could not."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A backend, a store that is open on it with one image in it, and a directory for files of the test."""

    backend: StoreBackend
    store: ImageStore
    directory: Path


async def put(store: ImageStore, key: str, data: bytes = DATA) -> None:
    """Write an image as an importer does: what fails is aborted, as far as that goes."""
    writer = await store.open_write(key)
    try:
        for begin in range(0, len(data), MIB):
            await writer.append(data[begin : begin + MIB])
        await writer.commit(size=len(data), digests={"sha256": hashlib.sha256(data).hexdigest()})
    except TintypeError:
        with suppress(TintypeError):  # what is left then is found by a list, and deleted
            await writer.abort()
        raise


async def read(store: ImageStore, key: str) -> bytes:
    """Read and verify an image."""
    return b"".join([piece async for piece in VerifiedReads(store, _blob(key)).read(key)])


async def is_sound(store: ImageStore, key: str) -> bool:
    """What the scrub finds."""
    reading = CopyReading(store, BlobRef("main", key), _blob(key), TokenBucket(0))
    with suppress(BlobDamagedError):
        async for _ in reading.pieces():
            pass
    return reading.is_sound


async def told(call: Awaitable[object]) -> str:
    """The reason that a call fails for, which it must."""
    try:
        await call
    except TintypeError as exc:
        return exc.reason
    raise NothingToldError("the call succeeded")


async def process_killed(scene: Scene) -> str:
    """A process is killed (SIGKILL) in the middle of its write."""
    settings = scene.directory / "store.toml"
    settings.write_text(scene.backend.settings_file(scene.directory))
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(settings), VICTIM],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"")  # among them what is logged of repeated calls
        was_written = await asyncio.to_thread(lambda: b"written\n" in lines)
        process.kill()
        await asyncio.to_thread(process.wait)
    assert was_written
    return NOBODY


async def server_killed(scene: Scene) -> str:
    """The system beneath is killed in the middle of a write, and comes back."""
    writer = await scene.store.open_write(VICTIM)
    await writer.append(DATA[:MIB])
    await scene.backend.kill()
    try:
        reason = await told(_finish(writer.append(DATA[MIB:]), writer.commit(size=len(DATA), digests={})))
        await _given_up(writer.abort())
    finally:
        await scene.backend.start()
    return reason


async def full(scene: Scene) -> str:
    """There is no room left."""
    await scene.backend.fill()
    try:
        reason = await told(put(scene.store, VICTIM))
    finally:
        await scene.backend.relieve()
    return reason


async def slow(scene: Scene) -> str:
    """The system passes one byte a second."""
    await scene.backend.slow_down(1)
    try:
        return await told(put(scene.store, VICTIM))
    finally:
        await scene.backend.speed_up()


async def hanging(scene: Scene) -> str:
    """The system does not answer, and keeps its connections."""
    await scene.backend.freeze()
    try:
        return await told(put(scene.store, VICTIM))
    finally:
        await scene.backend.thaw()


async def wrong_credentials(scene: Scene) -> str:
    """The system does not know the user, or the key."""
    return await told(_with(scene.backend.open_with_wrong_credentials))


async def missing_place(scene: Scene) -> str:
    """The bucket, container, pool or directory is not there."""
    return await told(_with(scene.backend.open_with_missing_place))


async def corrupted(scene: Scene) -> str:
    """One bit of what is stored is another."""
    await put(scene.store, VICTIM)
    await scene.backend.corrupt(VICTIM)
    reason = await told(read(scene.store, VICTIM))
    assert not await is_sound(scene.store, VICTIM)
    await scene.store.delete(VICTIM)
    return reason


async def leaving_name(scene: Scene) -> str:
    """A name tries to lead out of the store."""
    for key in ("../../etc/passwd", f"{VICTIM}/../../../x", "/etc/passwd"):
        assert await told(put(scene.store, key)) == await told(read(scene.store, key))
    return await told(put(scene.store, "../../etc/passwd"))


FAULTS: Mapping[str, Callable[[Scene], Awaitable[str]]] = {
    "process killed in mid-write": process_killed,
    "back end killed in mid-write, and back": server_killed,
    "full": full,
    "slow: 1 byte/s": slow,
    "hanging": hanging,
    "wrong credentials": wrong_credentials,
    "missing container, pool, bucket or directory": missing_place,
    "a stored bit changed": corrupted,
    "a name that leads out": leaving_name,
}


def _blob(key: str) -> Blob:
    digests = {"sha256": hashlib.sha256(DATA).hexdigest()}
    return Blob(BlobRef("main", key), len(DATA), digests, DiskFormat.RAW, None, {})


async def _with(opening: Callable[[], Awaitable[ImageStore]]) -> None:
    store = await opening()
    try:
        await put(store, VICTIM)
    finally:
        await store.aclose()


async def _finish(*calls: Awaitable[None]) -> None:
    try:
        for call in calls:
            await call
    finally:
        for call in calls:
            if asyncio.iscoroutine(call):
                call.close()


async def _given_up(call: Awaitable[None]) -> None:
    with suppress(TintypeError):  # as in put
        await call
