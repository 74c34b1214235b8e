"""One HTTP request to an address that was judged, and nowhere else.

It owns the pinning, the bounds on a response's head and on the pace of its body, and the translation of aiohttp's
errors. Redirects and interruptions are the matter of :mod:`services.importer.sources.http`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.importer.sources.addresses import AddressRules, IPAddress, Target
from tintype.domain.errors import (
    InvalidUriError,
    SourceCertificateError,
    SourceForbiddenError,
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
    async def get(self, target: Target, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a GET. Name, TLS and Host are those of the URL, whatever address is connected to.

        Raises:
            SourceForbiddenError: the host has no address that is fetched from.
            SourceUnreachableError: its name does not resolve, or it does not answer.
            SourceCertificateError: it is not the host that it should be.
            SourceServerError: what it says is not HTTP.
        """
        addresses = self._rules.permitted(target, await self._resolve(target))
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses),
            socket_factory=_SocketFactory(addresses),
            use_dns_cache=False,
            force_close=True,
            ssl=self._tls,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_timeout_s),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_SIZE,
            max_line_size=_MAX_HEADER_SIZE,
            max_field_size=_MAX_HEADER_SIZE,
            max_headers=_MAX_HEADERS,
        ) as session:
            with _translated(target):
                async with asyncio.timeout(self._limits.connect_timeout_s + self._limits.stall_timeout_s):
                    response = await session.get(
                        URL(target.url, encoded=True), headers=_HEADERS | headers, allow_redirects=False
                    )
            try:
                yield response
            finally:
                response.close()  # and not release, which would read on

    async def pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about 1 MiB, as long as it comes fast enough.

        Raises:
            SourceInterruptedError: it broke off, or stands still.
        """
        while True:
            try:
                piece = await self._piece(response.content)
            except TimeoutError:
                raise SourceInterruptedError(
                    f"fewer than {MIN_PROGRESS_SIZE} bytes came in {self._limits.stall_timeout_s:.0f} s"
                ) from None
            except (aiohttp.ClientError, OSError, ValueError) as exc:
                raise SourceInterruptedError("the connection broke off before the end of the file") from exc
            if not piece:
                return
            yield piece

    async def _piece(self, content: aiohttp.StreamReader) -> bytes:
        parts: list[bytes] = []
        size = counted = 0
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limits.stall_timeout_s) as stall:
            while size < PIECE_SIZE:
                part = await content.readany()
                if not part:
                    break
                parts.append(part)
                size += len(part)
                if size - counted >= MIN_PROGRESS_SIZE:
                    counted = size
                    stall.reschedule(loop.time() + self._limits.stall_timeout_s)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _resolve(self, target: Target) -> tuple[IPAddress, ...]:
        if target.literal:
            return (target.literal,)
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            raise SourceUnreachableError(f"the host name {target.host!r} does not resolve") from None
        return tuple(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


class _Pinned(AbstractResolver):
    """Answers every name with the addresses that were judged."""

    def __init__(self, addresses: tuple[IPAddress, ...]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _SocketFactory:
    """Makes sockets for the judged addresses only: the last gate, whatever happened on the way to it."""

    def __init__(self, addresses: tuple[IPAddress, ...]) -> None:
        self._addresses = addresses

    def __call__(self, address_info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if ipaddress.ip_address(str(address[0])) not in self._addresses:
            raise SourceForbiddenError("the connection would have gone to another address than was judged")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
        raise SourceCertificateError(f"{target} did not prove over TLS that it is that host") from exc
    except aiohttp.InvalidURL as exc:
        raise InvalidUriError("the URL cannot be read") from exc
    except (aiohttp.ClientResponseError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as exc:
        raise SourceServerError(f"{target} did not answer in HTTP, or with too long a head") from exc
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
        raise SourceUnreachableError(f"{target} does not answer") from exc
