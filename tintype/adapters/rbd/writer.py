"""A staged write into an RBD image, as the service sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tintype.adapters.rbd.process import Session
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import StoreUnavailableError, TintypeError

MAX_APPEND = 4 * 1024 * 1024


class RbdWriter:
    """Appends to the image that a session of the Ceph process has open, and locked."""

    def __init__(self, session: Session, key: BlobKey, offset: int) -> None:
        self._session = session
        self._key = key
        self._offset = offset
        self._is_open = True

    @property
    def key(self) -> str:
        """What the bytes will be called."""
        return str(self._key)

    @property
    def offset(self) -> int:
        """How many bytes have been appended."""
        return self._offset

    @property
    def local_path(self) -> Path | None:
        """There is no file."""
        return None

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there; blocks of zeros become holes.

        Raises:
            StoreFullError: the cluster or the pool's quota is full.
            StoreUnavailableError: Ceph failed.
        """
        self._require_open()
        view = memoryview(data).cast("B")
        for begin in range(0, len(view), MAX_APPEND):
            part = view[begin : begin + MAX_APPEND]
            await self._ask("append", part, taken=len(part))

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible. Ceph has no digests of its own to compare with.

        Raises:
            BlobDamagedError: there are more or fewer than ``size``.
            StoreFullError, StoreUnavailableError: Ceph refused, or the image was swept meanwhile.
        """
        self._require_open()
        try:
            await self._ask("commit", size=size)
        except BaseException:
            await self._give_up()
            raise
        self._is_open = False

    async def abort(self) -> None:
        """Remove what was written. Safe to call twice, and after a failed commit."""
        if self._is_open:
            self._is_open = False
            await self._ask("abort")

    async def close(self) -> None:
        """Stop writing, and keep the bytes."""
        if self._is_open:
            self._is_open = False
            await self._ask("close_write")

    async def _ask(self, do: str, payload: bytes | memoryview = b"", *, taken: int = 0, **fields: Any) -> None:
        """Have something done, to its end even if the caller is cancelled meanwhile: what comes next must not meet it.

        Then the write has come so many bytes further.
        """
        asking = asyncio.ensure_future(self._session.ask(do, payload, **fields))
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            await asyncio.wait([asking])
            if not asking.cancelled() and asking.exception() is None:
                self._offset += taken
            raise
        self._offset += taken

    async def _give_up(self) -> None:
        """Remove what was written if that is possible now; what failed before is what the caller is told."""
        try:
            await self.abort()
        except TintypeError:  # a leftover that a list shows
            return

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("the write has ended")
