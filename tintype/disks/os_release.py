"""Which operating system a root file system says that it is: os-release and what older systems have in its place.

Pure text, all of it the image's author's. The words are those of compute services: Glance's metadata definitions for
``os_distro``, which follow libosinfo.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_FILE_SIZE = 64 * 1024
"""Bytes of the largest file that is read; an os-release has some hundred."""

_MAX_LINES = 1024
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_ESCAPE = re.compile(r'\\(["$`\\])')
_PLAIN_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_DISTROS: Mapping[str, str] = {
    "opensuse-leap": "opensuse",
    "opensuse-leap-micro": "opensuse",
    "opensuse-microos": "opensuse",
    "opensuse-tumbleweed": "opensuse",
    "sles_sap": "sles",
}
"""By os-release's ID, where compute services know the distribution by another name."""

_NOT_LINUX = frozenset({"dragonfly", "freebsd", "illumos", "netbsd", "omnios", "openbsd", "openindiana", "smartos"})

_RED_HAT = re.compile(r"(.{1,60}?)(?: Linux)?(?: Server)? release (\d{1,4}(?:\.\d{1,6}){0,3})")
_RED_HAT_DISTROS: Mapping[str, str] = {
    "almalinux": "almalinux",
    "centos": "centos",
    "centos stream": "centos",
    "fedora": "fedora",
    "fedora core": "fedora",
    "red hat enterprise": "rhel",
    "rocky": "rocky",
}
_DEBIAN_VERSION = re.compile(r"\d{1,3}(?:\.\d{1,3}){0,2}")


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """What is known of it; ``None`` for what is not."""

    type: str | None
    distro: str | None
    version: str | None = None
    pretty_name: str | None = None


def parse_os_release(content: bytes) -> dict[str, str]:
    """The assignments of an os-release file (freedesktop.org, os-release(5)); of several to one key the last counts.

    A subset of a shell's syntax, read without one: what is no assignment, or badly quoted, is passed over.
    """
    values: dict[str, str] = {}
    for line in content[:MAX_FILE_SIZE].decode("utf-8", "replace").split("\n")[:_MAX_LINES]:
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match is None:
            continue
        value = _unquoted(match[2])
        if value is not None:
            values[match[1]] = value
    return values


def _unquoted(text: str) -> str | None:
    quote = text[:1]
    if quote in ("'", '"'):
        if len(text) < 2 or text[-1] != quote:
            return None
        inside = text[1:-1]
        return inside if quote == "'" else _ESCAPE.sub(r"\1", inside)
    return None if re.search(r"[\s'\"$`\\;&|<>()]", text) else text


def of_os_release(content: bytes) -> OperatingSystem | None:
    """The system that an os-release file describes; ``None`` if it has no ID, or one that is none."""
    values = parse_os_release(content)
    identifier = values.get("ID", "linux" if values else "").lower()  # "If not set, a default of ID=linux may be used"
    if not _PLAIN_ID.fullmatch(identifier):
        return None
    return OperatingSystem(
        None if identifier in _NOT_LINUX else "linux",
        _DISTROS.get(identifier, identifier),
        values.get("VERSION_ID") or None,
        values.get("PRETTY_NAME") or None,
    )


def of_debian_version(content: bytes) -> OperatingSystem:
    """The system of a file ``/etc/debian_version``: "7.11", or the name of what is not released."""
    line = _first_line(content)
    return OperatingSystem("linux", "debian", line if _DEBIAN_VERSION.fullmatch(line) else None)


def of_redhat_release(content: bytes) -> OperatingSystem | None:
    """The system of a file ``/etc/redhat-release``: "CentOS release 6.10 (Final)"."""
    line = _first_line(content)
    match = _RED_HAT.match(line)
    distro = _RED_HAT_DISTROS.get(match[1].lower()) if match else None
    return OperatingSystem("linux", distro, match[2], line) if match and distro else None


def _first_line(content: bytes) -> str:
    return content[:256].decode("utf-8", "replace").partition("\n")[0].strip()
