"""Whether a router is between this machine and a server, as far as the kernel's main routing tables tell.

They are read as text, so that nothing is sent to the server. Rules of policy routing, and tunnels that look like an
Ethernet, cannot be seen there: what is told is what the routes say, and no measurement.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_MAX_BYTES = 1024 * 1024
_GATEWAY, _REJECT = 0x0002, 0x0200  # linux/route.h: RTF_GATEWAY, RTF_REJECT
_LINK_LAYERS = (1, 32, 772)  # linux/if_arp.h: Ethernet, InfiniBand, loopback


class Reach(StrEnum):
    """How the routes lead to an address."""

    NEAR = "near"
    """On a link of this machine."""
    ROUTED = "routed"
    """Through a gateway."""
    UNKNOWN = "unknown"
    """No address, no route, or a tunnel, beneath which there may be routers."""


@dataclass(frozen=True, slots=True)
class _Route:
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    metric: int
    flags: int
    interface: str


@dataclass(frozen=True, slots=True)
class Routes:
    """The tables as ``/proc/net/route`` and ``/proc/net/ipv6_route`` show them, and each interface's ARPHRD type."""

    ipv4: str
    ipv6: str
    link_type: Callable[[str], int | None]

    @classmethod
    def of_this_machine(cls) -> Routes:
        """As they are now; a table that cannot be read is empty."""
        return cls(_text(Path("/proc/net/route")), _text(Path("/proc/net/ipv6_route")), _link_type)

    def reach(self, server: str) -> Reach:
        """How ``server``, an address as the mount table has it, is reached."""
        try:
            # A link-local address may name its interface; the routes say which it is.
            address = ipaddress.ip_address(server.partition("%")[0])
        except ValueError:
            return Reach.UNKNOWN
        if address.is_loopback:
            return Reach.NEAR
        parsed = _ipv4(self.ipv4) if address.version == 4 else _ipv6(self.ipv6)
        leading = [route for route in parsed if address in route.network]
        if not leading:
            return Reach.UNKNOWN
        best = min(leading, key=lambda route: (-route.network.prefixlen, route.metric))
        if best.flags & _REJECT:
            return Reach.UNKNOWN
        if best.flags & _GATEWAY:
            return Reach.ROUTED
        return Reach.NEAR if self.link_type(best.interface) in _LINK_LAYERS else Reach.UNKNOWN


def _ipv4(text: str) -> Iterator[_Route]:
    for line in text.splitlines()[1:]:
        with suppress(ValueError, IndexError):  # a line of another form is passed over
            interface, destination, _, flags, _, _, metric, mask = line.split()[:8]
            network, bits = (int.from_bytes(bytes.fromhex(field), "little") for field in (destination, mask))
            yield _Route(
                ipaddress.IPv4Network((network, str(ipaddress.IPv4Address(bits)))),
                int(metric),
                int(flags, 16),
                interface,
            )


def _ipv6(text: str) -> Iterator[_Route]:
    for line in text.splitlines():
        with suppress(ValueError, IndexError):
            destination, prefix, _, _, _, metric, _, _, flags, interface = line.split()
            network = ipaddress.IPv6Network((bytes.fromhex(destination), int(prefix, 16)))
            yield _Route(network, int(metric, 16), int(flags, 16), interface)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return ""


def _link_type(interface: str) -> int | None:
    try:
        return int(_text(Path("/sys/class/net") / interface / "type"))
    except ValueError:
        return None
