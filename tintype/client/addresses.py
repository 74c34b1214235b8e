"""Whether an address is this machine itself."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(target: str) -> bool:
    """Whether every address of ``HOST:PORT``, or of ``ipv4:HOST:PORT,HOST:PORT``, is loopback."""
    addresses = target.removeprefix("ipv4:").removeprefix("ipv6:").split(",")
    return all(_is_loopback_host(address.rpartition(":")[0].strip("[]")) for address in addresses)


def is_loopback_url(url: str) -> bool:
    """Whether ``SCHEME://HOST:PORT`` is loopback; what is no URL is not."""
    try:
        return _is_loopback_host(urlsplit(url.strip()).hostname or "")
    except ValueError:
        return False


def _is_loopback_host(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
