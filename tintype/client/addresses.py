"""Whether an address is this machine itself."""

from __future__ import annotations

import ipaddress


def is_loopback(target: str) -> bool:
    """Whether every address of ``HOST:PORT``, or of ``ipv4:HOST:PORT,HOST:PORT``, is loopback."""
    addresses = target.removeprefix("ipv4:").removeprefix("ipv6:").split(",")
    return all(_is_loopback_host(address.rpartition(":")[0].strip("[]")) for address in addresses)


def _is_loopback_host(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
