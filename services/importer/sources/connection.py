"""One HTTP request to an address that was judged, and nowhere else.

It owns the pinning, the bounds on a response's head and on the pace of its body, and the translation of aiohttp's
errors. Redirects and interruptions are the matter of :mod:`services.importer.sources.http`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from services.importer.sources.addresses import AddressRules, IPAddress, Target
from services.importer.sources.pinning import PinnedResolver, PinnedSockets
from tintype.domain.errors import (
    InvalidUriError,
    SizeMismatchError,
    SourceCertificateError,
    SourceInterruptedError,
    SourceServerError,
    SourceUnreachableError,
)

PIECE_SIZE = 1024 * 1024
MIN_PROGRESS_SIZE = 64 * 1024
"""Bytes that have to come within one stall timeout; fewer is a connection that is held open for its own sake."""

_READ_SIZE = 256 * 1024
_MAX_HEADER_SIZE = 8190
_MAX_HEADERS = 100
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "tintype"}


@dataclass(frozen=True, slots=True)
class WebLimits:
    """How patient a download is. ``attempts`` counts the first connection and those that go on where one broke."""

    connect_timeout_s: float = 15.0
    stall_timeout_s: float = 60.0
    total_timeout_s: float = 24 * 3600.0
    attempts: int = 3


class Connections:
    """Opens requests under the rules for addresses."""

    def __init__(self, rules: AddressRules, limits: WebLimits, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` is what certificates are verified with; by default, the system's authorities."""
        self._rules = rules
        self._limits = limits
        self._tls = tls or ssl.create_default_context()

    @asynccontextmanager
    async def get(self, target: Target, headers: dict[str, str]) -> AsyncIterator[Answer]:
        """The response to a GET. Name, TLS and Host are those of the URL, whatever address is connected to.

        Raises:
            SourceForbiddenError: the host has no address that is fetched from.
            SourceUnreachableError: its name does not resolve, or it does not answer.
            SourceCertificateError: it is not the host that it should be.
            SourceServerError: what it says is not HTTP.
        """
        addresses = self._rules.permitted(target, await self._resolve(target))
        with closing(PinnedSockets(addresses)) as sockets:
            async with self._session(addresses, sockets) as session:
                with _translated(target):
                    async with asyncio.timeout(self._limits.connect_timeout_s + self._limits.stall_timeout_s):
                        response = await session.get(
                            URL(target.url, encoded=True), headers=_HEADERS | headers, allow_redirects=False
                        )
                try:
                    yield Answer(response, sockets, self._limits, is_plain=target.scheme == "http")
                finally:
                    response.close()  # and not release, which would read on

    def _session(self, addresses: tuple[IPAddress, ...], sockets: PinnedSockets) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=PinnedResolver(addresses),
                socket_factory=sockets,
                use_dns_cache=False,
                force_close=True,
                ssl=self._tls,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_timeout_s),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_SIZE,
            max_line_size=_MAX_HEADER_SIZE,
            max_field_size=_MAX_HEADER_SIZE,
            max_headers=_MAX_HEADERS,
        )

    async def _resolve(self, target: Target) -> tuple[IPAddress, ...]:
        if target.literal:
            return (target.literal,)
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            raise SourceUnreachableError(f"the host name {target.host!r} does not resolve") from None
        return tuple(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


class Answer:
    """One response: its head at once, its body as it comes."""

    def __init__(
        self, response: aiohttp.ClientResponse, sockets: PinnedSockets, limits: WebLimits, *, is_plain: bool
    ) -> None:
        self._response = response
        self._protocol = response.connection.protocol if response.connection else None
        self._sockets = sockets
        self._limits = limits
        self._is_plain = is_plain

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, whose names have no case."""
        return self._response.headers

    async def require_nothing_more(self) -> None:
        """Check, behind the body, that nothing follows; TLS ends by itself where its body does.

        Raises:
            SizeMismatchError: the server sends more than it had announced.
        """
        # Bytes behind the body are no second answer; a connection that ended is an error of another kind.
        if self._protocol is not None and isinstance(self._protocol.exception(), HttpProcessingError):
            raise SizeMismatchError("the server sent more bytes than it had announced")
        if self._is_plain:
            await self._sockets.require_nothing_more()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about 1 MiB, as long as it comes fast enough.

        Raises:
            SourceInterruptedError: it broke off, or stands still.
        """
        while True:
            parts: list[bytes] = []
            is_last = False
            failure: SourceInterruptedError | None = None
            try:
                is_last = await self._collect(self._response.content, parts)
            except TimeoutError:
                failure = SourceInterruptedError(
                    f"fewer than {MIN_PROGRESS_SIZE} bytes came in {self._limits.stall_timeout_s:.0f} s"
                )
            except (aiohttp.ClientError, OSError, ValueError) as exc:
                failure = SourceInterruptedError("the connection broke off before the end of the file")
                failure.__cause__ = exc
            if parts:
                yield parts[0] if len(parts) == 1 else b"".join(parts)
            if failure:
                raise failure
            if is_last:
                return

    async def _collect(self, content: aiohttp.StreamReader, parts: list[bytes]) -> bool:
        """Add about 1 MiB to ``parts``; whether that was the end. What came before an error is in ``parts`` too."""
        size = counted = 0
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limits.stall_timeout_s) as stall:
            while size < PIECE_SIZE:
                part = await content.readany()
                if not part:
                    return True
                parts.append(part)
                size += len(part)
                if size - counted >= MIN_PROGRESS_SIZE:
                    counted = size
                    stall.reschedule(loop.time() + self._limits.stall_timeout_s)
        return False


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
        raise SourceCertificateError(f"{target} did not prove over TLS that it is that host") from exc
    except aiohttp.InvalidURL as exc:
        raise InvalidUriError("the URL cannot be read") from exc
    except (aiohttp.ClientResponseError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as exc:
        raise SourceServerError(
            f"{target} did not answer in HTTP, with too long a head, or with more than it announced"
        ) from exc
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
        raise SourceUnreachableError(f"{target} does not answer") from exc
