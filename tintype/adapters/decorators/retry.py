"""Calls that may succeed a moment later are made again, where repeating them is safe; the waits grow, and are random.

A question is repeated, and so is the opening of a write. A read goes on where it broke off. An append is repeated only
where none of its bytes were taken: :attr:`BlobWriter.offset` says so. A commit is never repeated, because a failed one
has ended the write; nor are a check and an examination, which are to tell how things are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import structlog

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter
from tintype.domain.errors import (
    StoreAccessDeniedError,
    StoreDeviceError,
    StoreMissingError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from tintype.ports.image_store import BlobWriter, DirectLocation, ImageStore, StoredBlob, StoreSpace

R = TypeVar("R")
Sleep = Callable[[float], Awaitable[object]]

log = structlog.get_logger(__name__)

LONGEST_DELAY_S = 5.0
_FIRST_DELAY_S = 0.1
_LASTING = (StoreReadOnlyError, StoreAccessDeniedError, StoreMissingError, StoreDeviceError)
"""What does not pass by itself within seconds."""


class Patience:
    """How often something is tried, and how long is waited in between: full jitter over an exponential growth.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(
        self,
        attempts: int,
        *,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        on_retry: Callable[[str], None] = lambda call: None,
    ) -> None:
        self.attempts = attempts
        self._sleep = sleep
        self._chance = chance
        self._on_retry = on_retry

    async def wait(self, failed: int, call: str, error: StoreUnavailableError) -> None:
        """Wait after the ``failed``-th failure in a row.

        Raises:
            StoreUnavailableError: ``error``, where another attempt is of no use.
        """
        if failed >= self.attempts or not error.retryable or isinstance(error, _LASTING):
            raise error
        log.info("call to the store is repeated", call=call, failed=failed, reason=error.reason, error=str(error))
        self._on_retry(call)
        await self._sleep(self._chance() * min(LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (failed - 1)))


class Retry(DelegatingStore):
    """A store whose calls are repeated with ``patience``."""

    def __init__(self, inner: ImageStore, patience: Patience) -> None:
        super().__init__(inner)
        self._patience = patience

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one."""
        inner = self._inner
        writer = await self._repeat("open_write", lambda: inner.open_write(key, resume=resume, replace=replace))
        return _Writer(writer, self._patience)

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes; a read that breaks off goes on behind what was yielded."""
        end = None if length is None else offset + length
        failed = 0
        while True:
            reading = self._inner.read(key, offset=offset, length=None if end is None else end - offset)
            try:
                async with aclosing(reading) as pieces:  # type: ignore[type-var]  # every store's read is a generator
                    async for piece in pieces:
                        failed = 0
                        offset += len(piece)
                        yield piece
                return
            except StoreUnavailableError as exc:
                failed += 1
                await self._patience.wait(failed, "read", exc)

    async def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write; repeated until the first of them is there."""
        async for piece in self._from_the_beginning("read_uncommitted", lambda: self._inner.read_uncommitted(key)):
            yield piece

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not."""
        return await self._repeat("stat", lambda: self._inner.stat(key))

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``: to remove them twice is no error."""
        await self._repeat("delete", lambda: self._inner.delete(key))

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored; repeated until the first of it is there."""
        async for stored in self._from_the_beginning("list", lambda: self._inner.list(prefix)):
            yield stored

    async def space(self) -> StoreSpace | None:
        """How much room there is."""
        return await self._repeat("space", self._inner.space)

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """Where a compute service fetches or clones committed bytes by itself."""
        return await self._repeat("locate", lambda: self._inner.locate(key, expires_in_s=expires_in_s))

    async def _repeat(self, call: str, attempt: Callable[[], Awaitable[R]]) -> R:
        failed = 0
        while True:
            try:
                return await attempt()
            except StoreUnavailableError as exc:
                failed += 1
                await self._patience.wait(failed, call, exc)

    async def _from_the_beginning(self, call: str, begin: Callable[[], AsyncIterator[R]]) -> AsyncIterator[R]:
        failed = 0
        is_begun = False
        while True:
            try:
                async with aclosing(begin()) as things:  # type: ignore[type-var]  # as in read
                    async for thing in things:
                        is_begun = True
                        yield thing
                return
            except StoreUnavailableError as exc:
                if is_begun:
                    raise
                failed += 1
                await self._patience.wait(failed, call, exc)


class _Writer(DelegatingWriter):
    """A writer whose appends are repeated as long as none of their bytes were taken."""

    def __init__(self, inner: BlobWriter, patience: Patience) -> None:
        super().__init__(inner)
        self._patience = patience

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there."""
        offset = self._inner.offset
        failed = 0
        while True:
            try:
                return await self._inner.append(data)
            except StoreUnavailableError as exc:
                if self._inner.offset != offset:
                    raise
                failed += 1
                await self._patience.wait(failed, "append", exc)
