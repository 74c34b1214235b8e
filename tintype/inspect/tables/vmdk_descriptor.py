"""The text descriptor of a VMDK (VMware, Virtual Disk Format 5.0): its reading, and what makes a file stand alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tintype.domain.errors import DifferencingDiskError, MalformedImageError, UnsafeExtentError

MAX_DESCRIPTOR_SIZE = 64 * 1024
"""Bytes; VMware's and QEMU's descriptors have about 500."""

SELF_CONTAINED_TYPES = frozenset({"monolithicSparse", "streamOptimized"})

QEMU_DESCRIPTOR_OFFSET = 0x200
QEMU_DESCRIPTOR_SIZE = 20 * 512
"""Where QEMU looks for a parent's name, whatever the header says of the descriptor (block/vmdk.c: vmdk_parent_open)."""

_SIGNATURE = b"# Disk DescriptorFile"
_PARENT_HINT = b"parentfilenamehint"
_NO_PARENT = "ffffffff"
# Possessive throughout, so that no line takes time that grows with more than its length.
_ASSIGNMENT = re.compile(r'\s*+([A-Za-z][A-Za-z0-9_.]*+)\s*+=\s*+"?+([^"]*+)"?+\s*+')
_EXTENT = re.compile(r'\s*+(RW|RDONLY|NOACCESS)\s++(\d{1,19}+)\s++([A-Z0-9]++)\s++"([^"]*+)"\s*+(\d{1,19}+)?+\s*+')
_EXTENT_BEGIN = re.compile(r"\s*(RW|RDONLY|NOACCESS)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Extent:
    """One line of the extent description."""

    access: str
    sectors: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Its assignments, by key in lower case, and its extents."""

    values: dict[str, str]
    extents: tuple[Extent, ...]


def is_descriptor(head: bytes) -> bool:
    """Whether a file is a descriptor only: comments and blank lines, then a version, as QEMU's probe has it."""
    if head[: len(_SIGNATURE)].lower() == _SIGNATURE.lower():
        return True
    if not head.startswith((b"#", b"\n", b"\r", b" ", b"\t", b"version")):
        return False
    for line in head[:4096].splitlines():
        text = line.strip()
        if text and not text.startswith(b"#"):
            return re.fullmatch(rb"version\s*=\s*[0-9]+", text) is not None
    return False


def parse_descriptor(data: bytes) -> Descriptor:
    """Read a descriptor, which ends with the first zero byte.

    Raises:
        MalformedImageError: for a key that is given twice.
        UnsafeExtentError: for an extent that cannot be read.
    """
    values: dict[str, str] = {}
    extents: list[Extent] = []
    for line in data.split(b"\0", 1)[0].decode("utf-8", "replace").splitlines():
        if _EXTENT_BEGIN.match(line):
            extents.append(_parse_extent(line))
        elif match := _ASSIGNMENT.fullmatch(line):
            key = match[1].lower()
            if key in values:
                raise MalformedImageError(f"the VMDK descriptor gives {match[1]!r:.80} twice")
            values[key] = match[2].strip()
    return Descriptor(values, tuple(extents))


def _parse_extent(line: str) -> Extent:
    match = _EXTENT.fullmatch(line)
    if match is None:
        raise UnsafeExtentError("the VMDK descriptor has an extent that cannot be read")
    return Extent(match[1], int(match[2]), match[3], match[4])


def check_no_parent_hint(text: bytes) -> None:
    """Check that the word by which a parent is named stands nowhere, not even in a comment or as a part of a key.

    QEMU searches for the word without reading the descriptor's lines, and opens the file that is named behind it.

    Raises:
        DifferencingDiskError: if it does.
    """
    if _PARENT_HINT in text.lower():
        raise DifferencingDiskError("the VMDK descriptor names a parent disk")


def check_self_contained(descriptor: Descriptor) -> None:
    """Check that the disk is in this file alone, and names no other (CVE-2022-47951).

    Raises:
        DifferencingDiskError: if there is a parent.
        UnsafeExtentError: for another create type, or an extent that is not this file itself.
    """
    values = descriptor.values
    if "parentfilenamehint" in values or values.get("parentcid", _NO_PARENT).lower() != _NO_PARENT:
        raise DifferencingDiskError("the VMDK descriptor names a parent disk")
    create_type = values.get("createtype", "")
    if create_type not in SELF_CONTAINED_TYPES:
        raise UnsafeExtentError(f"a VMDK of type {create_type!r:.60} is not contained in one file")
    if len(descriptor.extents) != 1:
        raise UnsafeExtentError(f"the VMDK descriptor names {len(descriptor.extents)} extents")
    extent = descriptor.extents[0]
    if extent.kind != "SPARSE" or not _is_plain_name(extent.name):
        raise UnsafeExtentError("the VMDK descriptor names an extent by a path, or one that is not sparse")


def _is_plain_name(name: str) -> bool:
    """A program writes its output's own name here; a name that leads elsewhere has a separator or a scheme."""
    return bool(name) and name not in (".", "..") and not re.search(r"[/\\:\x00-\x1f]", name)
