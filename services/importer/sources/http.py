"""Bytes from the web: one URL, its redirects, and the rest of the file when the connection breaks.

Which addresses may be connected to is the matter of :mod:`services.importer.sources.addresses`, one request that of
:mod:`services.importer.sources.connection`. The server is hostile: everything it sends is bounded in size and time, and
an error never tells more of the network than the user's own URL did.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from services.importer.sources import responses
from services.importer.sources.addresses import AddressRules, Target, target_of
from services.importer.sources.connection import Answer, Connections, WebLimits
from services.importer.sources.responses import Body
from tintype.domain.errors import SourceError, SourceInterruptedError, SourceRedirectError
from tintype.runtime.metrics import BYTES

log = structlog.get_logger(__name__)

_DOWNLOADED = BYTES.labels("web_download")

MAX_REDIRECTS = 5


class WebSource:
    """Downloads by http and https."""

    def __init__(
        self, rules: AddressRules, limits: WebLimits, *, tls: ssl.SSLContext | None = None, retry_delay_s: float = 0.5
    ) -> None:
        """``retry_delay_s`` is waited before the rest of a file is asked for, and doubles each time."""
        self._connections = Connections(rules, limits, tls)
        self._limits = limits
        self._retry_delay_s = retry_delay_s

    async def download(
        self, uri: str, *, max_size: int, expected_size: int | None, announce: Callable[[int | None], None]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the file's bytes in pieces of about 1 MiB; ``announce`` is told its size, where the server says it.

        Raises:
            SourceError: the class says what is wrong with the server, or the way to it.
            InvalidUriError: ``uri`` is none.
            ImageTooLargeError: the server announces more than ``max_size`` bytes.
            SizeMismatchError: it announces another size than ``expected_size``.
        """
        target = target_of(uri)
        deadline = asyncio.get_running_loop().time() + self._limits.total_timeout_s
        received = 0
        first: Body | None = None
        for attempt in range(1, self._limits.attempts + 1):
            try:
                async with self._opened(target, first, received) as (body, response):
                    if first is None:
                        first = body
                        responses.require_announced(body, max_size, expected_size)
                        announce(body.total_size)
                    async for piece in self._rest(body, response, received, deadline):
                        received += len(piece)
                        _DOWNLOADED.inc(len(piece))
                        yield piece
                return
            except SourceError as exc:
                if not exc.retryable or first is None or not first.is_resumable or attempt == self._limits.attempts:
                    raise
                log.info("download was interrupted", host=target.host, received_bytes=received, reason=exc.reason)
            await asyncio.sleep(self._retry_delay_s * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))  # noqa: S311  # jitter, not a secret

    @asynccontextmanager
    async def _opened(self, target: Target, first: Body | None, received: int) -> AsyncIterator[tuple[Body, Answer]]:
        """The file, or its rest, at the end of all redirects."""
        headers: dict[str, str] = {}
        if first and received:
            headers = {"Range": f"bytes={received}-", "If-Range": first.validator}
        seen = {target.url}
        for _ in range(MAX_REDIRECTS + 1):
            async with self._connections.get(target, headers) as response:
                if not responses.is_redirect(response.status):
                    responses.require_success(response.status, target)
                    if first and received:
                        yield responses.body_of_rest(response.status, response.headers, first, received), response
                    else:
                        yield responses.whole_body(response.status, response.headers), response
                    return
                target = responses.next_target(target, response.headers)
            if target.url in seen:
                raise SourceRedirectError("the server redirects in a circle")
            seen.add(target.url)
        raise SourceRedirectError(f"the server redirected more than {MAX_REDIRECTS} times")

    async def _rest(self, body: Body, response: Answer, received: int, deadline: float) -> AsyncIterator[bytes]:
        """The body from byte ``received`` of the file on."""
        skip = received - body.offset
        position = body.offset
        async for piece in response.pieces():
            if asyncio.get_running_loop().time() > deadline:
                raise SourceInterruptedError(f"the download took longer than {self._limits.total_timeout_s:.0f} s")
            position += len(piece)
            if len(piece) > skip:
                yield piece[skip:]
            skip = max(0, skip - len(piece))
        if body.total_size is not None and position != body.total_size:
            raise SourceInterruptedError(f"the server announced {body.total_size} bytes, and sent {position}")
        if body.total_size is not None:
            await response.require_nothing_more()
