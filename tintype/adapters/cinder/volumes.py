"""A store's volumes in Cinder: made, found, changed and deleted, with Cinder's own states waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import urlencode

from tintype.adapters.cinder.client import StateConflictError
from tintype.adapters.cinder.records import GIB, PREFIX, Volume, parse_id, parse_volume
from tintype.adapters.cinder.threads import in_thread
from tintype.domain.errors import (
    BlobNotFoundError,
    StoreBusyError,
    StoreDeviceError,
    StoreFullError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
)

PAGE = 100
_THREADS = 8
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
_NO_ROOM = ("003", "007")
"""Details of Cinder's messages: no weighted backend, and not enough space."""
_QUOTA = "006"


class Api(Protocol):
    """One blocking call; see :meth:`tintype.adapters.cinder.client.CinderClient.call`."""

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Ask, and read the answer."""
        ...

    def close(self) -> None:
        """End its connections."""
        ...


class Volumes:
    """The volumes of the store called ``name``. A call takes ``timeout_s`` at most, a change of state ``wait_s``."""

    def __init__(self, name: str, api: Api, *, timeout_s: float, wait_s: float) -> None:
        self.name = name
        self.wait_s = wait_s
        self._api = api
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"store-{name}")

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Ask Cinder.

        Raises:
            BlobNotFoundError, StateConflictError, StoreUnavailableError, StoreFullError: see ``CinderClient.call``.
        """
        what = f"store {self.name!r}: a call to Cinder"
        return await in_thread(
            self._threads, lambda: self._api.call(method, path, body), timeout_s=self._timeout_s, what=what
        )

    async def create(self, name: str, metadata: Mapping[str, str], volume_type: str) -> Volume:
        """Make a volume of 1 GiB, and wait until it can be attached. A failed one is removed.

        Raises:
            StoreFullError, StoreUnavailableError: it cannot be made.
        """
        wanted: dict[str, Any] = {"size": 1, "name": name, "metadata": dict(metadata)}
        if volume_type:
            wanted["volume_type"] = volume_type
        answer = await self.call("POST", "/volumes", {"volume": wanted})
        volume_id = _id_in(answer, "volume")
        try:
            return await self.await_status(volume_id, "available", during=("creating",))
        except (TintypeError, asyncio.CancelledError):
            await self._remove_failed(volume_id)
            raise

    async def get(self, volume_id: str) -> Volume:
        """A volume as it is now.

        Raises:
            BlobNotFoundError: it is gone, or is none of this store's any more.
        """
        answer = await self.call("GET", f"/volumes/{volume_id}")
        described = answer.get("volume")
        volume = parse_volume(described, self.name) if isinstance(described, Mapping) else None
        if volume is None:
            raise BlobNotFoundError(f"store {self.name!r} has no such volume")
        return volume

    async def of_key(self, key: str) -> list[Volume]:
        """All volumes of a key; what Cinder is deleting already is left out, until it fails at that."""
        return [volume async for volume in self.matching(key=key) if volume.key == key]

    async def matching(self, **filters: str) -> AsyncIterator[Volume]:
        """All volumes of this store whose metadata fit, by pages."""
        wanted = {f"{PREFIX}{name}": value for name, value in {"store": self.name, **filters}.items()}
        marker = ""
        seen: set[str] = set()
        while True:
            query = {"metadata": str(wanted), "limit": str(PAGE), "sort": "created_at:asc"}
            answer = await self.call("GET", f"/volumes/detail?{urlencode({**query, **_marker(marker)})}")
            page = answer.get("volumes")
            if not isinstance(page, Sequence):
                raise StoreUnavailableError(f"store {self.name!r}: Cinder's list is not understood")
            for described in page:
                volume = parse_volume(described, self.name) if isinstance(described, Mapping) else None
                if volume is not None and volume.status != "deleting" and volume.id not in seen:
                    seen.add(volume.id)
                    yield volume
            last = parse_id(page[-1].get("id")) if page and isinstance(page[-1], Mapping) else ""
            if len(page) < PAGE or last == marker:
                return
            marker = last

    async def set_metadata(self, volume_id: str, items: Mapping[str, str]) -> None:
        """Write these, in one transaction of Cinder's, and leave all others as they are."""
        await self.call("POST", f"/volumes/{volume_id}/metadata", {"metadata": dict(items)})

    async def remove_metadata(self, volume_id: str, name: str) -> None:
        """Remove one; it is no error that it is gone."""
        try:
            await self.call("DELETE", f"/volumes/{volume_id}/metadata/{name}")
        except BlobNotFoundError:
            return

    async def act(self, volume_id: str, action: str, **arguments: object) -> None:
        """One of Cinder's actions on a volume, such as ``os-extend``."""
        await self.call("POST", f"/volumes/{volume_id}/action", {action: arguments})

    async def extend(self, volume: Volume, size_gib: int) -> None:
        """Give a volume more room, and wait for it.

        Raises:
            StateConflictError: not while it is attached.
            StoreFullError, StoreUnavailableError: there is no more room.
        """
        await self.act(volume.id, "os-extend", new_size=size_gib)
        found = await self.await_status(volume.id, "available", "in-use", during=("extending",))
        if found.size_gib < size_gib:
            raise await self._told(volume.id, "was not extended")

    async def await_status(self, volume_id: str, *wanted: str, during: Sequence[str]) -> Volume:
        """Wait until a volume is in one of the states ``wanted``; those ``during`` are on the way there.

        Raises:
            StoreFullError, StoreQuotaExceededError: it failed, and Cinder says that there was no room.
            StoreUnavailableError: it failed, or is in a state that leads nowhere.
            StoreTimeoutError: it took too long.
        """
        async for _ in pauses(self.wait_s):
            volume = await self.get(volume_id)
            if volume.status in wanted:
                return volume
            if volume.status not in during:
                raise await self._told(volume_id, f"is in state {volume.status!r}")
        raise StoreTimeoutError(f"store {self.name!r}: Cinder left a volume in state {during[0]!r} for too long")

    async def delete(self, volume_id: str) -> None:
        """Remove a volume that nobody has attached, and wait until it is gone.

        Raises:
            StoreBusyError: it has snapshots, is attached, or is used beneath Cinder.
            StoreUnavailableError: Cinder failed.
        """
        has_been_asked = False
        async for _ in pauses(self.wait_s):
            try:
                answer = await self.call("GET", f"/volumes/{volume_id}")
                described = answer.get("volume")
                status = str(described.get("status")) if isinstance(described, Mapping) else ""
                if status == "deleting":
                    continue
                if has_been_asked:
                    raise await self._told(volume_id, "was not deleted", in_use=status != "error_deleting")
                await self.call("DELETE", f"/volumes/{volume_id}")
                has_been_asked = True
            except BlobNotFoundError:
                return
        raise StoreTimeoutError(f"store {self.name!r}: Cinder took too long to delete a volume")

    async def attachments(self, volume_id: str) -> list[str]:
        """The ids of a volume's attachments."""
        answer = await self.call("GET", f"/attachments?volume_id={volume_id}")
        found = answer.get("attachments")
        if not isinstance(found, Sequence):
            raise StoreUnavailableError(f"store {self.name!r}: Cinder's list is not understood")
        return [
            parse_id(one.get("id")) for one in found if isinstance(one, Mapping) and one.get("volume_id") == volume_id
        ]

    async def delete_attachment(self, attachment_id: str) -> None:
        """Remove an attachment; it is no error that it is gone."""
        try:
            await self.call("DELETE", f"/attachments/{attachment_id}")
        except BlobNotFoundError:
            return

    async def aclose(self) -> None:
        """Let go of the threads; one that still waits ends by its own deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._api.close()

    async def _remove_failed(self, volume_id: str) -> None:
        """What cannot be removed is in the lists, as unfinished, and is removed from there."""
        try:
            await self.delete(volume_id)
        except TintypeError:
            return

    async def _told(self, volume_id: str, what: str, *, in_use: bool = False) -> TintypeError:
        """Why Cinder failed at a volume, as far as its messages say."""
        said = f"store {self.name!r}: a volume {what}"
        try:
            answer = await self.call("GET", f"/messages?resource_uuid={volume_id}&limit=5&sort=created_at:desc")
        except TintypeError:
            answer = {}
        messages = answer.get("messages")
        for message in messages if isinstance(messages, Sequence) else ():
            detail = str(message.get("event_id", ""))[-3:] if isinstance(message, Mapping) else ""
            if detail in _NO_ROOM:
                return StoreFullError(f"{said}: no backend of Cinder's has room for it")
            if detail == _QUOTA:
                return StoreQuotaExceededError(f"{said}: the project's quota is used up")
        if in_use:
            return StoreBusyError(f"{said}: it is in use")
        return StoreDeviceError(said) if "error" in what else StoreUnavailableError(said)


async def pauses(for_s: float) -> AsyncIterator[None]:
    """Attempts with growing pauses between them, the last one after ``for_s``."""
    end = time.monotonic() + for_s
    pause_s = _FIRST_PAUSE_S
    yield
    while (left_s := end - time.monotonic()) > 0:
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        yield


def gib_for(size: int) -> int:
    """The smallest volume that ``size`` bytes fit in."""
    return max(1, -(-size // GIB))


def _marker(marker: str) -> dict[str, str]:
    return {"marker": marker} if marker else {}


def _id_in(answer: Mapping[str, Any], what: str) -> str:
    described = answer.get(what)
    return parse_id(described.get("id") if isinstance(described, Mapping) else None)


__all__ = ["Api", "StateConflictError", "Volumes", "gib_for", "pauses"]
