"""Uploads: who may send bytes, where they go on, and what becomes of them once all are there.

Nothing but the bytes themselves and the log is kept: an upload's name carries the rest, so that any replica goes on
with it, also after a kill. The order is: commit the bytes, then append ImageStaged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from services.importer.expectations import Expectations, SitePolicy
from services.importer.pacing import paced
from services.importer.placement import first_writable, resolved
from services.importer.sessions import Session, Sessions
from services.importer.upload_record import UploadRecord
from services.importer.upload_target import UploadTarget
from services.importer.upload_tokens import UploadToken, nonce_of
from tintype.adapters.stores import Stores
from tintype.codec.framing import WriteFrame
from tintype.domain.access import Caller, changeable
from tintype.domain.decide import require_bytes_allowed
from tintype.domain.errors import (
    AbandonedError,
    ImageTooLargeError,
    InvalidArgumentError,
    InvalidDigestError,
    InvalidSizeError,
    UploadBusyError,
    UploadNotFoundError,
    WrongOffsetError,
)
from tintype.domain.events import ImageStaged, RecordedEvent, StagePurpose
from tintype.domain.evolve import fold
from tintype.domain.image import Image
from tintype.domain.values import DEFAULT_PLACEMENT, DIGEST_ALGORITHMS, Digest, ImageId, OperationId, Placement
from tintype.runtime.journal import Journal
from tintype.runtime.metrics import BYTES

log = structlog.get_logger(__name__)

_UPLOADED = BYTES.labels("upload")


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """``idle_s`` is how long hashes are kept for a broken stream, which no other replica can go on with meanwhile;
    ``most`` how many uploads are in hand at once.

    A stream holds one of those places: in ``stall_timeout_s`` seconds it has to bring
    :data:`~services.importer.pacing.MIN_PROGRESS_SIZE` bytes.
    """

    idle_s: float = 3.0
    most: int = 64
    stall_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class UploadState:
    """How an upload stands. ``position`` is that of ImageStaged in the log; 0 until the upload is complete."""

    token: UploadToken
    committed_size: int
    position: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the image has its bytes."""
        return self.position > 0


class Uploads:
    """All uploads."""

    def __init__(
        self,
        journal: Journal,
        stores: Stores,
        policy: SitePolicy,
        limits: UploadLimits,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._stores = stores
        self._policy = policy
        self._limits = limits
        self._record = UploadRecord(journal, stores, policy.plugins)
        self._sessions = Sessions(stores, most=limits.most, monotonic=monotonic, is_recorded=self._record.is_recorded)

    async def start(
        self,
        caller: Caller,
        image_id: ImageId,
        purpose: StagePurpose,
        *,
        size: int | None,
        digest: Digest | None,
        request_id: str,
        hash_algorithm: str = "",
        placement: Placement = DEFAULT_PLACEMENT,
    ) -> UploadState:
        """Begin an upload; the same ``request_id`` twice is one upload.

        ``hash_algorithm`` is of a digest to take besides the site's: that of a signature which is set meanwhile.
        ``placement`` says which stores the bytes shall be in.

        Raises:
            ImageNotFoundError, NotPermittedError: the caller may not change the image.
            PreconditionError: no bytes may be given to it now.
            InvalidArgumentError: the size, the purpose, the algorithm or the request id is out of bounds.
            ImageTooLargeError: more bytes are announced than the site allows.
            StoreNotFoundError: a store is named that there is not.
        """
        if purpose not in (StagePurpose.UPLOAD, StagePurpose.STAGE):
            raise InvalidArgumentError("an upload's purpose is UPLOAD or STAGE")
        self._check_size(size)
        if hash_algorithm and hash_algorithm not in DIGEST_ALGORITHMS:
            raise InvalidDigestError(f"{hash_algorithm[:80]!r} is not one of {', '.join(DIGEST_ALGORITHMS)}")
        nonce = nonce_of(caller, request_id)
        wanted = self._placement(purpose, placement)
        token = UploadToken(image_id, nonce, purpose, size, digest, hash_algorithm, wanted)
        state, image = await self._find(caller, token)
        if state.is_complete:
            return state
        require_bytes_allowed(image, purpose)
        self._record.plugins_for(image, caller, purpose)
        expectations, decompresses = self._expectations(image, token)
        try:
            async with self._sessions.begun(token, expectations, decompresses=decompresses) as session:
                return UploadState(token, session.one_pass.offset)
        except UploadBusyError:
            return await self.status(caller, str(token))

    async def write(self, caller: Caller, frames: AsyncIterator[WriteFrame]) -> UploadState:
        """Take the bytes of one stream; its last frame may finish the upload.

        Raises:
            UploadNotFoundError: there is no such upload.
            UploadBusyError: another stream writes to it.
            UploadStalledError: the bytes come too slowly; they are kept.
            WrongOffsetError: the bytes do not follow the committed ones.
            RefusedContentError, ImageTooLargeError: the bytes are refused, and removed.
            StoreFullError, StoreUnavailableError: they cannot be kept.
        """
        frames = paced(frames, self._limits.stall_timeout_s)
        first = await anext(frames, None)
        if first is None:
            raise InvalidArgumentError("the stream has no message")
        token = UploadToken.parse(first.upload_id)
        state, image = await self._find(caller, token)
        if state.is_complete:
            _require_offset(first, state.committed_size)
            return state
        require_bytes_allowed(image, token.purpose)
        expectations, decompresses = self._expectations(image, token)
        async with self._sessions.claimed(token, expectations, decompresses=decompresses) as session:
            if not await self._take(session, first, frames, token):
                await session.one_pass.flush()
                return UploadState(token, session.one_pass.offset)
            return await self._finish(caller, token, session)

    async def status(self, caller: Caller, upload_id: str) -> UploadState:
        """How an upload stands.

        Raises:
            UploadNotFoundError: there is none, or its bytes were swept.
            ImageNotFoundError, NotPermittedError: the caller may not change the image.
        """
        token = UploadToken.parse(upload_id)
        state, _ = await self._find(caller, token)
        if state.is_complete:
            return state
        offset = self._sessions.offset(token.operation_id)
        if offset is None:
            offset = await UploadTarget(self._stores, token).size()
        return UploadState(token, offset)

    async def cancel(self, caller: Caller, upload_id: str) -> None:
        """Give an upload up, and remove its bytes; one that is given up already is no error.

        Raises:
            UploadNotFoundError: there is none, or it is complete: cancel its operation.
        """
        token = UploadToken.parse(upload_id)
        state, _ = await self._find(caller, token)
        if state.is_complete:
            raise UploadNotFoundError("the upload is complete; cancel its operation")
        await self._sessions.cancel(token)

    async def run(self) -> None:
        """Let go of idle uploads, until cancelled."""
        try:
            while True:
                await asyncio.sleep(min(self._limits.idle_s / 2, 5.0))
                await self.close_idle()
        finally:
            await self._sessions.aclose()

    async def close_idle(self) -> None:
        """Let go of the uploads that nothing came for in a while; their bytes are kept."""
        await self._sessions.close_idle(self._limits.idle_s)

    async def aclose(self) -> None:
        """Keep the bytes of all uploads, and let go of them."""
        await self._sessions.aclose()

    async def _find(self, caller: Caller, token: UploadToken) -> tuple[UploadState, Image]:
        history = await self._journal.history(token.image_id)
        image = changeable(fold(history), caller)
        staged = _staged(history, token.operation_id)
        if staged is None:
            return UploadState(token, 0), image
        position, staging = staged
        size = staging.received.size if staging.received else staging.blob.size
        return UploadState(token, size, position), image

    async def _take(
        self, session: Session, first: WriteFrame, frames: AsyncIterator[WriteFrame], token: UploadToken
    ) -> bool:
        """Take frames until one finishes the upload; ``False`` if none does."""
        frame: WriteFrame | None = first
        while frame is not None:
            if session.is_cancelled:
                raise AbandonedError("the upload was cancelled")
            if frame.upload_id and frame.upload_id != str(token):
                raise InvalidArgumentError("one stream writes to one upload")
            _require_offset(frame, session.one_pass.offset)
            if frame.data:
                await session.one_pass.feed(frame.data)  # type: ignore[arg-type]  # nobody writes into a received frame
                _UPLOADED.inc(len(frame.data))
            if frame.finish_write:
                return True
            frame = await anext(frames, None)
        return False

    async def _finish(self, caller: Caller, token: UploadToken, session: Session) -> UploadState:
        # A client that goes away now has its upload finished all the same.
        finishing = asyncio.ensure_future(self._commit_and_record(caller, token, session))
        try:
            return await asyncio.shield(finishing)
        except asyncio.CancelledError:
            await asyncio.wait([finishing])
            if not finishing.cancelled() and (error := finishing.exception()):
                log.warning("upload failed unseen", operation_id=token.operation_id, error=str(error))
            raise

    async def _commit_and_record(self, caller: Caller, token: UploadToken, session: Session) -> UploadState:
        blob = await session.one_pass.finish(session.target.first.name)
        written = session.target.written(blob)
        try:
            position = await self._record.staged(caller, token, written, session.one_pass.received)
        finally:  # and not before: who cancels meanwhile must not remove what is about to be recorded
            self._sessions.forget(token.operation_id)
        log.info(
            "upload was finished",
            image_id=token.image_id,
            operation_id=token.operation_id,
            size_bytes=blob.size,
            purpose=token.purpose,
            stores=[written.blob.ref.store, *(ref.store for ref in written.copies)],
            failed_stores=[failed.store for failed in written.failed],
        )
        return UploadState(token, session.one_pass.offset, position)

    def _expectations(self, image: Image, token: UploadToken) -> tuple[Expectations, bool]:
        """What the bytes have to be, and whether they are decompressed: a plain upload is stored as it comes."""
        decompresses = token.purpose is StagePurpose.STAGE and self._policy.decompresses(image)
        expectations = self._policy.expectations(
            image, size=token.size, digest=token.digest, hash_algorithm=token.hash_algorithm
        )
        return expectations, decompresses

    def _placement(self, purpose: StagePurpose, asked: Placement) -> Placement:
        """The placement as the upload's name carries it; bytes that wait for an import go where they can go now."""
        if asked == DEFAULT_PLACEMENT:
            return asked
        placement = resolved(self._stores, asked)
        if purpose is StagePurpose.UPLOAD:
            return placement
        first = first_writable(self._stores, placement).name
        return replace(placement, stores=tuple(dict.fromkeys((first, *placement.stores))))

    def _check_size(self, size: int | None) -> None:
        if size is None:
            return
        if size < 0:
            raise InvalidSizeError(f"the expected size is {size}, and must not be negative")
        if size > self._policy.max_size:
            raise ImageTooLargeError(f"{size} bytes are announced; this site takes up to {self._policy.max_size}")


def _require_offset(frame: WriteFrame, committed_size: int) -> None:
    if frame.write_offset != committed_size:
        raise WrongOffsetError(f"bytes came for offset {frame.write_offset}, and {committed_size} bytes are kept")


def _staged(history: Sequence[RecordedEvent], operation: OperationId) -> tuple[int, ImageStaged] | None:
    """The event that an upload ended with, and its position."""
    for recorded in history:
        match recorded.payload:
            case ImageStaged(operation_id, purpose) as staged if operation_id == operation:
                return None if purpose is StagePurpose.IMPORT else (recorded.position, staged)
    return None
