"""A volume attached to this host, from Cinder's record of it to the connected device, and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from tintype.adapters.cinder.attaching import Attaching, Device
from tintype.adapters.cinder.client import StateConflictError
from tintype.adapters.cinder.leases import Held, Leases
from tintype.adapters.cinder.records import orphans, parse_id
from tintype.adapters.cinder.threads import in_thread
from tintype.adapters.cinder.volumes import Volumes, pauses
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    StoreAccessDeniedError,
    StoreBusyError,
    StoreDeviceError,
    StoreFullError,
    StoreMissingError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)

R = TypeVar("R")

_HOPELESS = (BlobNotFoundError, StoreAccessDeniedError, StoreMissingError)


@dataclass(slots=True)
class Attachment:
    """A connected volume, with the one thread that uses it: a device that hangs holds up nobody else."""

    id: str
    volume_id: str
    connection: Mapping[str, Any]
    connected: tuple[Device, object]
    thread: ThreadPoolExecutor
    timeout_s: float
    store: str

    @property
    def is_zeroed(self) -> bool:
        """Whether what was never written is read as zeros."""
        return self.connected[0].is_zeroed

    @property
    def sees_extension(self) -> bool:
        """Whether the volume can be extended while it is attached."""
        return self.connected[0].sees_extension

    async def use(self, work: Callable[[Device], R], *, is_read: bool = False) -> R:
        """Do ``work`` with the device.

        Raises:
            BlobDamagedError: what is there cannot be read.
            StoreFullError, StoreUnavailableError: the storage failed.
        """
        device = self.connected[0]
        try:
            return await in_thread(
                self.thread, lambda: work(device), timeout_s=self.timeout_s, what=f"store {self.store!r}: a volume"
            )
        except TintypeError:
            raise
        except Exception as exc:  # librbd's errors are no OSError, and its module may not be there to be named
            raise _device_error(self.store, exc, is_read=is_read) from exc


class Attachments:
    """Attaches a store's volumes to this host, ``limit`` at once."""

    def __init__(self, volumes: Volumes, leases: Leases, attaching: Attaching, *, timeout_s: float, limit: int) -> None:
        self._volumes = volumes
        self._leases = leases
        self._attaching = attaching
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(limit)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=f"attach-{volumes.name}")
        self._properties: Mapping[str, Any] | None = None

    async def attach(self, volume_id: str, held: Held) -> Attachment:
        """Attach and connect, for reading and writing where ``held`` is a writer's; the lease must be written.

        Tried again while Cinder refuses; what a dead holder left attached is detached first. A failed attempt leaves
        neither a connection nor an attachment.

        Raises:
            StoreBusyError: somebody else has it, or this host has too many.
            StoreUnavailableError: it cannot be attached.
        """
        try:
            async with asyncio.timeout(self._volumes.wait_s):
                await self._room.acquire()
        except TimeoutError as exc:
            raise StoreBusyError(f"store {self._volumes.name!r} has too many volumes attached here") from exc
        try:
            return await self._attach_patiently(volume_id, held)
        except BaseException:
            self._room.release()
            raise

    async def detach(self, attachment: Attachment) -> None:
        """Disconnect, and tell Cinder. What fails is found by its lapsed lease."""
        try:
            await self._disconnect(attachment)
        finally:
            attachment.thread.shutdown(wait=False, cancel_futures=True)
            self._room.release()
            await self._volumes.delete_attachment(attachment.id)

    async def remove_orphans(self, volume_id: str, *, but: str = "") -> list[str]:
        """Detach what no living holder has; the ids of the attachments that are left."""
        found = await self._volumes.attachments(volume_id)
        if not found:
            return []
        volume = await self._volumes.get(volume_id)
        now = time.time()
        dead = orphans(found, volume.leases, now, but=but)
        for attachment in dead:
            await self._volumes.delete_attachment(attachment)
        for lease in volume.leases:
            if not lease.is_live(now):
                await self._volumes.remove_metadata(volume_id, next(iter(lease.item)))
        return [attachment for attachment in found if attachment not in dead]

    async def properties(self) -> Mapping[str, Any]:
        """What os-brick says of this host.

        Raises:
            StoreUnavailableError: it cannot tell.
        """
        if self._properties is None:
            self._properties = await self._run(self._threads, self._attaching.properties)
        return self._properties

    async def aclose(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _attach_patiently(self, volume_id: str, held: Held) -> Attachment:
        failure: TintypeError = StoreTimeoutError(f"store {self._volumes.name!r}: a volume cannot be attached")
        async for _ in pauses(self._volumes.wait_s):
            try:
                return await self._attach_once(volume_id, held)
            except _HOPELESS:
                raise
            except StateConflictError as exc:
                failure = StoreBusyError(exc.message)
                await self.remove_orphans(volume_id, but=held.holder)
            except StoreUnavailableError as exc:
                failure = exc
                await self.remove_orphans(volume_id, but=held.holder)
        raise failure

    async def _attach_once(self, volume_id: str, held: Held) -> Attachment:
        mode = "rw" if held.is_writer else "ro"
        connector = {**await self.properties(), "mode": mode}
        wanted = {"volume_uuid": volume_id, "connector": connector, "mode": mode}
        answer = (await self._volumes.call("POST", "/attachments", {"attachment": wanted})).get("attachment")
        if not isinstance(answer, Mapping) or not isinstance(answer.get("connection_info"), Mapping):
            raise StoreUnavailableError(f"store {self._volumes.name!r}: Cinder's attachment is not understood")
        attachment_id = parse_id(answer.get("id"))
        held.attachment = attachment_id
        connection = {**answer["connection_info"], "access_mode": mode}
        try:
            await self._leases.write(volume_id, held)
            attached = await self._connect(volume_id, attachment_id, connection)
        except BaseException:
            held.attachment = ""
            await self._give_back(attachment_id)
            raise
        try:
            await self._volumes.call("POST", f"/attachments/{attachment_id}/action", {"os-complete": {}})
        except BaseException:
            held.attachment = ""
            await self._disconnect_quietly(attached)
            await self._give_back(attachment_id)
            raise
        return attached

    async def _connect(self, volume_id: str, attachment_id: str, connection: Mapping[str, Any]) -> Attachment:
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"volume-{self._volumes.name}")
        try:
            connected = await self._run(thread, lambda: self._attaching.connect(connection))
        except BaseException:
            thread.shutdown(wait=False, cancel_futures=True)
            raise
        return Attachment(attachment_id, volume_id, connection, connected, thread, self._timeout_s, self._volumes.name)

    async def _disconnect(self, attachment: Attachment) -> None:
        await self._run(
            attachment.thread, lambda: self._attaching.disconnect(attachment.connection, attachment.connected)
        )

    async def _disconnect_quietly(self, attachment: Attachment) -> None:
        try:
            await self._disconnect(attachment)
        except TintypeError:
            return
        finally:
            attachment.thread.shutdown(wait=False, cancel_futures=True)

    async def _give_back(self, attachment_id: str) -> None:
        try:
            await self._volumes.delete_attachment(attachment_id)
        except TintypeError:
            return  # it is named by no lease, and found so

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], R]) -> R:
        try:
            return await in_thread(
                pool, work, timeout_s=self._timeout_s, what=f"store {self._volumes.name!r}: os-brick"
            )
        except TintypeError:
            raise
        except Exception as exc:  # os-brick has many: its own, processutils', librbd's and the system's
            raise StoreUnavailableError(
                f"store {self._volumes.name!r}: os-brick failed ({type(exc).__name__})"
            ) from exc


def _device_error(store: str, error: Exception, *, is_read: bool) -> TintypeError:
    """By name: librbd's classes are those of a module that is only there where Ceph is."""
    number = getattr(error, "errno", None)
    match type(error).__name__, number:
        case ("DiskQuotaExceeded", _) | (_, 122):
            return StoreQuotaExceededError(f"store {store!r}: the storage beneath Cinder is over its quota")
        case ("NoSpace", _) | (_, 28):
            return StoreFullError(f"store {store!r}: the storage beneath Cinder is full")
        case ("Timeout" | "TimedOut" | "ConnectionShutdown", _) | (_, 110):
            return StoreTimeoutError(f"store {store!r}: the storage beneath Cinder did not answer in time")
        case _ if is_read and number == 5:
            return BlobDamagedError(f"store {store!r} cannot read some of the bytes")
        case _:
            return StoreDeviceError(f"store {store!r}: a volume failed ({type(error).__name__})")
