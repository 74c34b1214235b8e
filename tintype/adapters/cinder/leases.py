"""Who of this process has which volume attached, told to all others by a lease in the volume's metadata.

A lease is renewed while its holder lives, and lapses by itself. Its holder trusts it for two thirds of its time, so
that the clocks of two hosts may differ by the last third before both think that they may write.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field

from tintype.adapters.cinder.records import BlobState, Lease
from tintype.adapters.cinder.volumes import Volumes
from tintype.domain.errors import BlobNotFoundError, StoreUnavailableError, TintypeError


@dataclass(slots=True)
class Held:
    """A lease of this process's. ``lost`` says why it is one no more."""

    is_writer: bool
    valid_until: float
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    attachment: str = ""
    lost: str = ""

    def require(self) -> None:
        """Check that nobody else may have taken over.

        Raises:
            StoreUnavailableError: somebody may.
        """
        if self.lost:
            raise StoreUnavailableError(self.lost)
        if time.monotonic() >= self.valid_until:
            raise StoreUnavailableError("the lease of the volume could not be renewed: another may write to it now")


class Leases:
    """The leases of one store in this process, each for ``lease_s`` seconds."""

    def __init__(self, volumes: Volumes, lease_s: float) -> None:
        self._volumes = volumes
        self._lease_s = lease_s
        self._held: dict[str, tuple[str, Held]] = {}
        self._renewing: asyncio.Task[None] | None = None

    def new(self, *, is_writer: bool) -> Held:
        """A lease that is to be written by whoever asks."""
        return Held(is_writer, self._valid_until())

    def written(self, held: Held) -> Lease:
        """The lease as it is to be written now."""
        held.valid_until = self._valid_until()
        # Rounded up: a lease of less than a second would have lapsed when it is written.
        return Lease(held.holder, held.is_writer, int(time.time() + self._lease_s) + 1, held.attachment)

    async def write(self, volume_id: str, held: Held) -> None:
        """Write or renew it, and keep it renewed until :meth:`release`."""
        lease = self.written(held)
        await self._volumes.set_metadata(volume_id, lease.item)
        self.keep(volume_id, held)

    def keep(self, volume_id: str, held: Held) -> None:
        """Renew a lease that is written."""
        self._held[held.holder] = (volume_id, held)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_for_ever(), name="cinder leases")

    def forget(self, held: Held) -> None:
        """Renew it no more."""
        self._held.pop(held.holder, None)

    async def release(self, volume_id: str, held: Held) -> None:
        """End it; one that cannot be removed now lapses."""
        self.forget(held)
        try:
            await self._volumes.remove_metadata(volume_id, next(iter(self.written(held).item)))
        except TintypeError:
            return

    async def check(self, volume_id: str, held: Held) -> None:
        """Ask Cinder whether a writer is still the one.

        Raises:
            StoreUnavailableError: the volume was removed, or another writer has it.
        """
        try:
            volume = await self._volumes.get(volume_id)
        except BlobNotFoundError:
            held.lost = "the bytes were removed from the store while they were written"
        else:
            if volume.state is not BlobState.WRITING:
                held.lost = "the bytes were removed from the store while they were written"
            elif volume.lease_of(held.holder) is None or volume.has_live_writer(time.time(), but=held.holder):
                held.lost = "another writer has taken the volume over"
        held.require()

    async def aclose(self) -> None:
        """Renew nothing any more."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 4)
            for volume_id, held in list(self._held.values()):
                try:
                    await self._renew(volume_id, held)
                except TintypeError:
                    continue  # again in a moment; until then the holder sees that it is not valid

    async def _renew(self, volume_id: str, held: Held) -> None:
        if held.is_writer:
            await self.check(volume_id, held)
        if held.holder in self._held:
            until = self._valid_until()
            lease = Lease(held.holder, held.is_writer, int(time.time() + self._lease_s) + 1, held.attachment)
            await self._volumes.set_metadata(volume_id, lease.item)
            held.valid_until = until

    def _valid_until(self) -> float:
        return time.monotonic() + self._lease_s * 2 / 3
