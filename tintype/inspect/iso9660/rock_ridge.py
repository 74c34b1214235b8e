"""What the system use fields of an ISO 9660 root directory tell: Rock Ridge names, and files compressed by zisofs.

The fields are read in the directory itself (SUSP 1.12); continuation areas and subdirectories are never followed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SECTOR_SIZE = 2048
_RECORD_HEADER_SIZE = 33
_FIELD_HEADER_SIZE = 4
_ROCK_RIDGE = frozenset({b"PX", b"RR", b"NM", b"TF", b"SL"})
_ZISOFS_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class RootDirectory:
    """Hints by the root directory: ``zisofs_size_bytes`` is what its compressed files claim to grow to, in all."""

    has_rock_ridge: bool
    zisofs_files: int
    zisofs_size_bytes: int


def read_root(data: bytes) -> RootDirectory:
    """Read as much of the root directory as was captured; what cannot be read tells nothing."""
    has_rock_ridge, sizes = False, []
    for record in _records(data):
        for signature, payload in _fields(record):
            has_rock_ridge = has_rock_ridge or signature in _ROCK_RIDGE
            # zisofs, version 1: algorithm, header size, block size, then the uncompressed size in both endians.
            if signature in (b"ZF", b"Z2") and len(payload) >= 8:
                sizes.append(int(_ZISOFS_SIZE.unpack_from(payload, 4)[0]))
    return RootDirectory(has_rock_ridge, len(sizes), sum(sizes))


def _records(data: bytes) -> Iterator[bytes]:
    """The directory's records: none crosses a sector (ECMA-119, 6.8.1.1), and a length of 0 leads to the next one."""
    at = 0
    while at + _RECORD_HEADER_SIZE < len(data):
        length = data[at]
        if length <= _RECORD_HEADER_SIZE:
            at = (at // _SECTOR_SIZE + 1) * _SECTOR_SIZE
            continue
        yield data[at : at + length]
        at += length


def _fields(record: bytes) -> Iterator[tuple[bytes, bytes]]:
    name_length = record[32]
    at = _RECORD_HEADER_SIZE + name_length + (name_length + 1) % 2
    while at + _FIELD_HEADER_SIZE <= len(record):
        length = record[at + 2]
        if length < _FIELD_HEADER_SIZE:
            return
        yield record[at : at + 2], record[at + _FIELD_HEADER_SIZE : at + length]
        at += length
