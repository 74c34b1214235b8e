"""Who may write under a key: an object that expires by itself (``X-Delete-After``) unless its holder says otherwise.

It is made with ``If-None-Match: *``, for which Swift takes an expired object to be absent, also before its expirer has
removed it. Two writers that begin in the same instant may both be told yes, as each server looks before it writes;
hence each looks again who holds it, before and after its commit.

A lease keeps writers from useless work. That no bytes of two of them are mixed does not hang on it: each writes
segments of its own, and the manifest is put in one request.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from tintype.adapters.swift import layout
from tintype.adapters.swift.account import Account
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import TintypeError, UploadBusyError

_WRITE = "X-Object-Meta-Tintype-Write"

_RENEWALS = 3
"""So often a lease is renewed in the time in which it would lapse."""


class Lease:
    """One writer's claim to ``key``."""

    def __init__(self, account: Account, container: str, key: BlobKey, lease_s: int, write: str = "") -> None:
        """``write`` is what its holder will write, for others to see; where it is found later, see :meth:`tell`."""
        self._account = account
        self._path = f"/{container}/{layout.lease_name(key)}"
        self._key = key
        self._holder = layout.new_write_id().encode()
        self._lease_s = lease_s
        self._write = write
        self._renewed_at = 0.0
        self._is_lost = False
        self._renewing: asyncio.Task[None] | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it is being renewed."""
        return self._renewing is not None and not self._renewing.done()

    async def acquire(self) -> None:
        """Claim the key, and go on claiming it.

        Raises:
            UploadBusyError: another has it.
            StoreUnavailableError: the store failed.
        """
        if not await self.claim():
            raise UploadBusyError(f"another writer is at the bytes of image {self._key.image_id}")
        self._renewing = asyncio.create_task(self._renew(), name=f"lease {self._key}")

    async def tell(self, write: str) -> None:
        """Let others see that the holder goes on with that write.

        Raises:
            StoreUnavailableError: the store failed.
        """
        self._write = write
        await self._account.call("POST", self._path, headers=self._headers(), expect=(404, 409))

    async def is_left(self, write: str) -> bool:
        """Whether nobody but this writer can be going on with ``write``, so that its segments may be removed."""
        if await self.claim():
            return True
        found = await self._account.call("HEAD", self._path, headers={"X-Newest": "true"}, expect=(404,))
        return found.headers.get(_WRITE, write) != write

    async def hold(self) -> bool:
        """Whether it is ours, also if it had lapsed, because Swift was away, and nobody took it over.

        One that vanished before it could lapse was removed by a sweep, and is lost.
        """
        if self._is_lost or await self.is_held():
            return not self._is_lost
        # Swift counts whole seconds, and so may let it lapse a second earlier.
        has_lapsed = time.monotonic() - self._renewed_at > self._lease_s - 1
        self._is_lost = not (has_lapsed and await self.claim())
        return not self._is_lost

    async def is_held(self) -> bool:
        """Whether it is still ours: a sweep removes it, and who found it expired takes it over."""
        found = await self._account.call("GET", self._path, headers={"X-Newest": "true"}, expect=(404,))
        return found.status == 200 and found.body == self._holder

    async def claim(self) -> bool:
        """Take it where nobody has it; whether it is ours now, as it may have been before."""
        begun_at = time.monotonic()
        headers = {"If-None-Match": "*", "Content-Type": "text/plain", **self._headers()}
        await self._account.call("PUT", self._path, headers=headers, body=(self._holder,), expect=(409, 412))
        # Also after a refusal: the answer to an attempt before, which made it, may have been lost.
        if not await self.is_held():
            return False
        self._renewed_at = begun_at
        return True

    async def release(self) -> None:
        """Give the claim up; another's is left alone."""
        await self.abandon()
        if await self.is_held():
            await self._account.call("DELETE", self._path, expect=(404, 409))

    async def abandon(self) -> None:
        """Claim the key no longer: the claim lapses by itself."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS)
            # A failure is for the writer's own calls to meet: the next turn tries again.
            with suppress(TintypeError):
                if not await self.hold():
                    return
                begun_at = time.monotonic()
                # The holder is in the body, which a POST leaves as it is.
                reply = await self._account.call("POST", self._path, headers=self._headers(), expect=(404, 409))
                if reply.status < 300:
                    self._renewed_at = begun_at

    def _headers(self) -> dict[str, str]:
        told = {_WRITE: self._write} if self._write else {}
        return {"X-Delete-After": str(self._lease_s), **told}


async def is_leased(account: Account, container: str, key: BlobKey) -> bool:
    """Whether a writer that lives has the key."""
    path = f"/{container}/{layout.lease_name(key)}"
    return (await account.call("HEAD", path, headers={"X-Newest": "true"}, expect=(404,))).status != 404
