"""Who may write under a key: an object that its holder writes again and again, until it lapses by itself.

Only ``If-None-Match: *`` is asked of the server, which more servers honour than ``If-Match``. A lease that has lapsed
is taken over by whoever makes the object ``takeovers/KEY/HOLDER`` first. Ages are by the server's clock alone.

A lease keeps writers from useless work. That no two of them commit does not hang on it: each writes an object of its
own, and the marker of a commit is made where there is none.
"""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from tintype.adapters.s3.bucket import Bucket, SmallObject
from tintype.adapters.s3.layout import Layout
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import TintypeError, UploadBusyError

_LEASE_MAX_S = 3600.0
_GRAIN = timedelta(seconds=1)
"""Servers tell times in whole seconds."""

_RENEWALS = 3
"""So often a lease is renewed in the time in which it would lapse."""


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as it was found."""

    holder: str
    is_live: bool
    modified_at: datetime

    @classmethod
    def of(cls, found: SmallObject) -> LeaseState:
        """Read what anybody may have written; what cannot be read lapses as the longest lease does."""
        holder, lease_s = "", _LEASE_MAX_S
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            told = json.loads(found.data)
            if math.isfinite(told["lease_s"]):
                lease_s = min(max(float(told["lease_s"]), 0.0), _LEASE_MAX_S)
            holder = str(told["holder"])[:64]
        return cls(holder, found.age < timedelta(seconds=lease_s) + _GRAIN, found.modified_at)


class Lease:
    """One writer's claim to ``key``."""

    def __init__(self, bucket: Bucket, layout: Layout, key: BlobKey, holder: str, lease_s: float) -> None:
        self._bucket = bucket
        self._layout = layout
        self._key = key
        self._name = layout.lease(key)
        self._holder = holder
        self._lease_s = lease_s
        self._renewing: asyncio.Task[None] | None = None

    async def acquire(self) -> bool:
        """Claim the key, and go on claiming it; whether another's claim had lapsed.

        Raises:
            UploadBusyError: another has it.
            StoreUnavailableError: the store failed.
        """
        found = await read_lease(self._bucket, self._layout, self._key)
        if found is not None and found.is_live:
            raise self._busy()
        if found is None:
            # It may be our own that is there, if the answer to a first attempt was lost.
            if not await self._bucket.put(self._name, self._content(), is_new=True) and not await self.is_held():
                raise self._busy()
        else:
            await self._take_over(found)
        self._renewing = asyncio.create_task(self._renew(), name=f"lease {self._key}")
        return found is not None

    async def is_held(self) -> bool:
        """Whether it is still ours: a sweep removes it, and whoever thought it lapsed takes it over."""
        found = await read_lease(self._bucket, self._layout, self._key)
        return found is not None and found.holder == self._holder

    async def is_taken(self) -> bool:
        """Whether another has it, who may go on behind what was written under it."""
        found = await read_lease(self._bucket, self._layout, self._key)
        return found is not None and found.holder != self._holder

    async def release(self) -> None:
        """Give the claim up; another's is left alone."""
        await self.abandon()
        if await self.is_held():
            await self._bucket.delete(self._name)

    async def abandon(self) -> None:
        """Claim the key no longer: the claim lapses by itself."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None

    async def _take_over(self, lapsed: LeaseState) -> None:
        claim = self._layout.takeover(self._key, lapsed.holder if len(lapsed.holder) == 32 else "0" * 32)
        if not await self._bucket.put(claim, self._content(), is_new=True):
            rival = await self._bucket.get_small(claim)
            if rival is not None and not LeaseState.of(rival).is_live:
                await self._bucket.delete(claim)  # killed while it took over: the next attempt succeeds
            raise self._busy()
        try:
            found = await read_lease(self._bucket, self._layout, self._key)
            if found is None or found.holder != lapsed.holder or found.is_live:
                raise self._busy()
            await self._bucket.put(self._name, self._content())
        finally:
            await self._bucket.delete(claim)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS)
            # A failure is for the writer's own calls to meet: the next turn tries again.
            with suppress(TintypeError):
                if not await self.is_held():
                    return
                await self._bucket.put(self._name, self._content())

    def _content(self) -> bytes:
        return json.dumps({"holder": self._holder, "lease_s": self._lease_s}).encode()

    def _busy(self) -> UploadBusyError:
        return UploadBusyError(f"another writer is at the bytes of image {self._key.image_id}")


async def read_lease(bucket: Bucket, layout: Layout, key: BlobKey) -> LeaseState | None:
    """The lease of ``key`` as it is now."""
    found = await bucket.get_small(layout.lease(key))
    return None if found is None else LeaseState.of(found)
