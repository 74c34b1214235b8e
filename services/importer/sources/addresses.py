"""Which URLs a web download may go to, and which addresses: the rules alone, without a network.

A name is resolved once, every address is judged here, and exactly the addresses that passed are connected to. An
address that embeds an IPv4 address is judged by that one, because that is where its packets end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from tintype.domain.errors import ConfigurationError, InvalidUriError, SourceForbiddenError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_LENGTH = 8192
_DEFAULT_PORTS = {"http": 80, "https": 443}
_KEPT = "%/:=&?~+!$,;'@()*[]|{}"

_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
_COMPATIBLE_V6 = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1, deprecated
_SPECIAL = tuple(
    # In IANA's special-purpose registries, and not in `ipaddress` of every Python that Tintype runs on.
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")
)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
# A last label that is a number makes the whole host an IPv4 address to resolvers (WHATWG URL, "ends in a number").
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that can be fetched: ``host`` is a lower-case ASCII name or the text of an IP address."""

    url: str
    scheme: str
    host: str
    port: int

    @property
    def literal(self) -> IPAddress | None:
        """The address, where the host is one."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def target_of(url: str) -> Target:
    """Read a URL.

    Raises:
        InvalidUriError: it is no absolute URL with a host, or carries a user's name.
        SourceForbiddenError: it is not http or https, or its host is a number in disguise.
    """
    if len(url) > MAX_URL_LENGTH or not url.isprintable() or re.search(r"[\s\\]", url):
        raise InvalidUriError("the URL is too long, or has blanks, backslashes or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidUriError("the URL cannot be read") from None
    if parts.scheme and parts.scheme not in _DEFAULT_PORTS:
        raise SourceForbiddenError(f"only http and https are fetched, not {parts.scheme[:20]!r}")
    if not parts.scheme or not host:
        raise InvalidUriError("the URL is not absolute")
    if parts.username is not None or parts.password is not None:
        raise InvalidUriError("the URL carries a user's name or password, which everyone who reads the log would see")
    if port == 0:
        raise InvalidUriError("the URL has port 0")
    if ("[" in parts.netloc) != (":" in host):
        raise InvalidUriError("the URL's host is neither a name nor an address")
    name = _host(host)
    authority = f"[{name}]" if ":" in name else name
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        authority += f":{port}"
    # Rebuilt, so that what was judged is what is asked for; what is quoted already remains as it is.
    path, query = quote(parts.path or "/", safe=_KEPT), quote(parts.query, safe=_KEPT)
    return Target(
        urlunsplit((parts.scheme, authority, path, query, "")), parts.scheme, name, port or _DEFAULT_PORTS[parts.scheme]
    )


def redirected(target: Target, location: str) -> Target:
    """Where a redirect leads.

    Raises:
        InvalidUriError, SourceForbiddenError: as for :func:`target_of`.
    """
    try:
        return target_of(urljoin(target.url, location))
    except ValueError:
        raise InvalidUriError("the URL cannot be read") from None


def _host(host: str) -> str:
    if "%" in host:
        raise SourceForbiddenError("the URL's host names a network interface, or is percent-encoded")
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise InvalidUriError("the URL's host is no IPv6 address") from None
    try:
        # Compatibility characters become what they look like here, before anything is judged: ① is 1, 。 is a dot.
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise InvalidUriError("the URL's host is not a name") from None
    if _ENDS_IN_NUMBER.fullmatch(name):
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise SourceForbiddenError(
                "the URL's host is a number, but not an address as it is usually written"
            ) from None
    if len(name) > 253 or not _HOST_NAME.fullmatch(name):
        raise InvalidUriError("the URL's host is not a name")
    return name.rstrip(".")


def unwrapped(address: IPAddress) -> tuple[IPAddress, ...]:
    """The addresses that packets to ``address`` may end at: the embedded ones, or itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address.sixtofour:
        return (address.sixtofour,)
    if address.teredo:
        return address.teredo
    low = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _NAT64 or address in _LOCAL_NAT64:
        return (low,) if address in _NAT64 else (low, address)
    if address in _COMPATIBLE_V6:
        return (low, address)
    return (address,)


def is_public(address: IPAddress) -> bool:
    """Whether everybody on the Internet could reach it."""
    return all(_is_public(inner) for inner in unwrapped(address))


def _is_public(address: IPAddress) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address not in _UNICAST_V6 or _is_isatap(address)):
        return False
    return not any(address.version == network.version and address in network for network in _SPECIAL)


def _is_isatap(address: ipaddress.IPv6Address) -> bool:
    return (int(address) >> 32) & 0xFDFF_FFFF == 0x5EFE  # RFC 5214, 6.1: …:0:5efe:a.b.c.d and …:200:5efe:a.b.c.d


class AddressRules:
    """Public addresses on the usual ports, and what the operator has allowed besides."""

    def __init__(self, allowed_hosts: Iterable[str], allowed_ports: Iterable[int]) -> None:
        """``allowed_hosts`` are names, addresses and networks; those are fetched from on every port.

        Raises:
            ConfigurationError: an entry is none of these.
        """
        self._ports = frozenset((*_DEFAULT_PORTS.values(), *allowed_ports))
        self._names: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in allowed_hosts:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                self._names.add(_allowed_name(entry))

    def permitted(self, target: Target, addresses: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
        """Those of a target's addresses that may be connected to.

        Raises:
            SourceForbiddenError: none of them.
        """
        found = tuple(address for address in addresses if self._permits(target, address))
        if not found:
            raise SourceForbiddenError(f"this site does not fetch from {target}")
        return found

    def _permits(self, target: Target, address: IPAddress) -> bool:
        if target.host in self._names or self._is_listed(address):
            return True
        return target.port in self._ports and is_public(address)

    def _is_listed(self, address: IPAddress) -> bool:
        # A mapped address is the IPv4 address to the kernel. Other wrappings are gateways, which nobody has allowed.
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self._networks)


def _allowed_name(entry: str) -> str:
    name = entry.strip().lower().rstrip(".")
    if not _HOST_NAME.fullmatch(name) or _ENDS_IN_NUMBER.fullmatch(name):
        raise ConfigurationError(f"importer.allowed_hosts: {entry[:80]!r} is no host name, address or network")
    return name
