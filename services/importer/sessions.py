"""Uploads in hand: the hashes and the open write of each, kept between two streams of the same upload.

What is not in memory any more is made again from the bytes in the store. Who may upload, and what becomes of the bytes,
is the matter of :mod:`services.importer.uploads`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog

from services.importer.expectations import Expectations
from services.importer.import_pass import ImportPass
from services.importer.one_pass import OnePass, replay
from services.importer.upload_target import UploadTarget
from services.importer.upload_tokens import UploadToken
from tintype.adapters.stores import Stores
from tintype.domain.errors import (
    AlreadyExistsError,
    ConflictError,
    ExhaustedError,
    InvalidArgumentError,
    StoreUnavailableError,
    TintypeError,
    UnavailableError,
    UploadBusyError,
)
from tintype.domain.values import OperationId
from tintype.ports.image_store import BlobWriter, ImageStore

log = structlog.get_logger(__name__)

_KEEPING = (AlreadyExistsError, InvalidArgumentError, UnavailableError, ConflictError)
"""What a stream may fail with without its bytes being at fault: the client can go on behind them."""


class Session:
    """One upload in hand. One stream at a time uses it."""

    def __init__(self, one_pass: OnePass | ImportPass, target: UploadTarget, now_s: float) -> None:
        self.one_pass = one_pass
        self.target = target
        self.used_at_s = now_s
        self.is_busy = False
        self.is_cancelled = False


class Sessions:
    """The uploads that this process has in hand."""

    def __init__(
        self,
        stores: Stores,
        *,
        most: int,
        monotonic: Callable[[], float],
        is_recorded: Callable[[UploadToken], Awaitable[bool]],
    ) -> None:
        """``monotonic`` tells seconds, for how long a session was idle; ``is_recorded``, whether an upload ended."""
        self._stores = stores
        self._most = most
        self._monotonic = monotonic
        self._is_recorded = is_recorded
        self._held: dict[OperationId, Session] = {}
        self._opening: set[OperationId] = set()

    def offset(self, operation: OperationId) -> int | None:
        """The bytes taken of an upload in hand; ``None`` if it is not."""
        session = self._held.get(operation)
        return session.one_pass.offset if session else None

    @asynccontextmanager
    async def begun(
        self, token: UploadToken, expectations: Expectations, *, decompresses: bool
    ) -> AsyncIterator[Session]:
        """As :meth:`claimed`, and an upload that nobody knows yet is begun.

        Raises:
            UploadBusyError: another stream or another replica writes to it.
        """
        async with self._claimed(token, expectations, decompresses, create=True) as session:
            yield session
        if not session.one_pass.offset:
            # Its bytes may be sent to any replica, and there is nothing that only this one has hashed.
            await self._close(token.operation_id)

    @asynccontextmanager
    async def claimed(
        self, token: UploadToken, expectations: Expectations, *, decompresses: bool
    ) -> AsyncIterator[Session]:
        """Hold the upload for one stream; its hashes are made again where they were not kept.

        With ``decompresses``, compressed bytes are decompressed on the way.

        What the stream raises decides what is kept: everything after an interruption, nothing of refused bytes.

        Raises:
            UploadBusyError: another stream or another replica writes to it.
            UploadNotFoundError: there are no bytes of it.
            ExhaustedError: too many uploads are being sent at once.
        """
        async with self._claimed(token, expectations, decompresses, create=False) as session:
            yield session

    @asynccontextmanager
    async def _claimed(
        self, token: UploadToken, expectations: Expectations, decompresses: bool, *, create: bool
    ) -> AsyncIterator[Session]:
        operation = token.operation_id
        session = self._held.get(operation)
        if operation in self._opening or (session and session.is_busy):
            raise UploadBusyError("another stream is writing to the same upload")
        if session is None:
            session = await self._open(token, expectations, decompresses, create)
        session.is_busy = True
        try:
            yield session
        except (StoreUnavailableError, AlreadyExistsError):
            await self._close(operation)  # what was written can be gone on with; the hashes are ahead of it
            raise
        except TintypeError as exc:
            if not isinstance(exc, _KEEPING):
                await self._abort(operation)
            raise
        finally:
            session.is_busy = False
            session.used_at_s = self._monotonic()
            if session.is_cancelled:
                await self._abort(operation)

    def forget(self, operation: OperationId) -> None:
        """The upload is finished: its write has ended."""
        self._held.pop(operation, None)

    async def cancel(self, token: UploadToken) -> None:
        """Give an upload up, and remove its bytes; a stream that is at it does so when it ends."""
        session = self._held.get(token.operation_id)
        if session and session.is_busy:
            session.is_cancelled = True
            return
        await self._abort(token.operation_id)
        await UploadTarget(self._stores, token).remove()

    async def close_idle(self, idle_s: float) -> None:
        """Keep the bytes, and no longer the hashes, of uploads that nothing came for in ``idle_s`` seconds."""
        oldest = self._monotonic() - idle_s
        for operation, session in list(self._held.items()):
            if not session.is_busy and session.used_at_s <= oldest:
                await self._close(operation)

    async def aclose(self) -> None:
        """Keep the bytes of all uploads."""
        for operation in list(self._held):
            await self._close(operation)

    async def _open(self, token: UploadToken, expectations: Expectations, decompresses: bool, create: bool) -> Session:
        self._opening.add(token.operation_id)
        try:
            await self._make_room()
            target = UploadTarget(self._stores, token, partial(self._is_recorded, token))
            writer, pieces = await target.open(create=create)
            one_pass = _pass(token, expectations, decompresses, writer, target.first)
            try:
                if writer.offset:
                    await replay(one_pass, pieces, writer.offset)
            except BaseException as exc:
                # Cancelled is whose client has gone away while the hashes were made again: it may come back.
                is_kept = isinstance(exc, _KEEPING) or not isinstance(exc, Exception)
                await _ended(one_pass.close() if is_kept else one_pass.abort())
                raise
            session = self._held[token.operation_id] = Session(one_pass, target, self._monotonic())
            return session
        finally:
            self._opening.discard(token.operation_id)

    async def _make_room(self) -> None:
        if len(self._held) + len(self._opening) <= self._most:
            return
        idle = [(session.used_at_s, name) for name, session in self._held.items() if not session.is_busy]
        if not idle:
            raise ExhaustedError(f"{self._most} uploads are being sent already; try again later")
        await self._close(min(idle)[1])

    async def _close(self, operation: OperationId) -> None:
        session = self._held.pop(operation, None)
        if session:
            await _ended(session.one_pass.close())

    async def _abort(self, operation: OperationId) -> None:
        session = self._held.pop(operation, None)
        if session:
            await _ended(session.one_pass.abort())
            log.info("upload was given up", operation_id=operation, received_bytes=session.one_pass.offset)


async def _ended(ending: Awaitable[None]) -> None:
    """End a pass. A store that does not let it hides no other failure; what is left is gone on with, or swept."""
    try:
        await ending
    except TintypeError as exc:
        log.warning("upload was not ended cleanly", reason=exc.reason, error=str(exc))


def _pass(
    token: UploadToken, expectations: Expectations, decompresses: bool, writer: BlobWriter, store: ImageStore
) -> OnePass | ImportPass:
    async def open_decompressed() -> BlobWriter:
        await store.delete(token.decompressed_key)  # of a process that was killed; ours is the only writer
        return await store.open_write(token.decompressed_key)

    return ImportPass(expectations, writer, open_decompressed) if decompresses else OnePass(expectations, writer)
