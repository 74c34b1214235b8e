"""Connections to judged addresses and no others, and a look at what the peer sends behind the end.

Two plugs for aiohttp: a resolver that answers with what was judged, and a maker of sockets that takes nothing else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from services.importer.sources.addresses import IPAddress
from tintype.domain.errors import SizeMismatchError, SourceForbiddenError

_EXCESS_WAIT_S = 0.1


class PinnedResolver(AbstractResolver):
    """Answers every name with the addresses that were judged."""

    def __init__(self, addresses: tuple[IPAddress, ...]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The judged addresses, whatever the name."""
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


class PinnedSockets:
    """Makes sockets for the judged addresses only: the last gate, whatever happened on the way to it.

    It keeps a second handle on each, to see after the body whether the peer sends more than it announced: an HTTP
    client closes its own handle with the last byte, and never looks.
    """

    def __init__(self, addresses: tuple[IPAddress, ...]) -> None:
        self._addresses = addresses
        self._made: list[socket.socket] = []

    def __call__(self, address_info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if ipaddress.ip_address(str(address[0])) not in self._addresses:
            raise SourceForbiddenError("the connection would have gone to another address than was judged")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        self._made.append(made.dup())
        return made

    async def require_nothing_more(self) -> None:
        """Check that the peer hangs up, or is silent.

        Raises:
            SizeMismatchError: it sends more.
        """
        loop = asyncio.get_running_loop()
        for handle in self._made:
            handle.setblocking(False)
            readable = asyncio.Event()
            loop.add_reader(handle, readable.set)
            try:
                async with asyncio.timeout(_EXCESS_WAIT_S):
                    await readable.wait()
                more = handle.recv(1, socket.MSG_PEEK)
            except OSError:  # silent (a timeout is one as well), reset, or never connected
                more = b""
            finally:
                loop.remove_reader(handle)
            if more:
                raise SizeMismatchError("the server sent more bytes than it had announced")

    def close(self) -> None:
        """Let go of the second handles."""
        for handle in self._made:
            handle.close()
