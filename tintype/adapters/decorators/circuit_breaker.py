"""A store that fails its writes again and again becomes read-only, until a check finds it well.

So an importer does not spend every upload's time on a store that is known to fail, and whoever chooses a store sees it
in its state. What is stored is read as before: each read finds out for itself whether it works. A write that is open
is not broken off by this: its own calls tell how it goes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import structlog

from tintype.adapters.decorators.delegation import DelegatingStore, DelegatingWriter
from tintype.domain.errors import StoreReadOnlyError, StoreUnavailableError
from tintype.ports.clock import Clock
from tintype.ports.image_store import BlobWriter, ImageStore, StoreMode, StoreState

log = structlog.get_logger(__name__)


class CircuitBreaker(DelegatingStore):
    """A store that takes no new write after ``failures`` failed ones in a row, the first of them ``within_s`` ago.

    A successful :meth:`check` puts it back, whoever asks: services check their stores every few seconds. Where nobody
    does, the first new write after ``probe_after_s`` checks before it begins.
    """

    def __init__(
        self,
        inner: ImageStore,
        clock: Clock,
        *,
        failures: int = 5,
        within_s: float = 60.0,
        probe_after_s: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._clock = clock
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._within_s = within_s
        self._probe_after_s = probe_after_s
        self._monotonic = monotonic
        self._probe_at = 0.0
        self._broken: StoreState | None = None
        self._healed: StoreState | None = None

    @property
    def state(self) -> StoreState:
        """Read-only while it is broken; else that of the store itself."""
        inner = self._inner.state
        if inner.mode is not StoreMode.READ_WRITE:
            return inner
        return self._broken or self._healed or inner

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> BlobWriter:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            StoreReadOnlyError: writes have failed too often, and no check has succeeded since.
        """
        await self._require_whole()
        try:
            writer = await self._inner.open_write(key, resume=resume, replace=replace)
        except StoreUnavailableError as exc:
            self.failed(exc)
            raise
        return _Writer(writer, self)

    async def check(self) -> None:
        """Find out whether the store can be written and read; if so, it takes bytes again."""
        await self._inner.check()
        if self._broken is not None:
            self._broken, self._healed = None, StoreState(StoreMode.READ_WRITE, self._clock.now())
            self._failed_at.clear()
            log.info("store takes bytes again", store=self.name)

    def worked(self) -> None:
        """A write came to its end: what failed before is forgotten."""
        self._failed_at.clear()

    def failed(self, error: StoreUnavailableError) -> None:
        """Bytes could not be written, for a reason that lies in the store."""
        if isinstance(error, StoreReadOnlyError):  # it knows so itself, and will know when that is over
            return
        now = self._monotonic()
        self._failed_at.append(now)
        is_often = len(self._failed_at) == self._failed_at.maxlen and now - self._failed_at[0] <= self._within_s
        if is_often and self._broken is None:
            message = f"the last {len(self._failed_at)} writes failed: {error.message}"
            self._broken = StoreState(StoreMode.READ_ONLY, self._clock.now(), error.reason, message)
            self._probe_at = now + self._probe_after_s
            log.warning("store takes no bytes for now", store=self.name, reason=error.reason, error=str(error))

    async def _require_whole(self) -> None:
        if self._broken is None:
            return
        message = f"store {self.name!r} takes no bytes: {self._broken.message}"
        now = self._monotonic()
        if now < self._probe_at:
            raise StoreReadOnlyError(message)
        self._probe_at = now + self._probe_after_s  # one write finds out for all
        try:
            await self.check()
        except StoreUnavailableError as exc:
            raise StoreReadOnlyError(message) from exc


class _Writer(DelegatingWriter):
    def __init__(self, inner: BlobWriter, breaker: CircuitBreaker) -> None:
        super().__init__(inner)
        self._breaker = breaker
        self._has_failed = False

    async def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there."""
        try:
            await self._inner.append(data)
        except StoreUnavailableError as exc:
            self._fail(exc)
            raise

    async def commit(self, *, size: int, digests: Mapping[str, str]) -> None:
        """Make the bytes durable and visible."""
        try:
            await self._inner.commit(size=size, digests=digests)
        except StoreUnavailableError as exc:
            self._fail(exc)
            raise
        self._breaker.worked()

    def _fail(self, error: StoreUnavailableError) -> None:
        """One write counts once, however often it is tried."""
        if not self._has_failed:
            self._has_failed = True
            self._breaker.failed(error)
