"""Small immutable values that the whole of Tintype shares: identifiers, digests, places of bytes."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from tintype.domain.errors import InvalidDigestError, InvalidIdentifierError

ImageId = NewType("ImageId", str)
"""A lower-case UUID with hyphens."""

ProjectId = NewType("ProjectId", str)
"""The tenant that owns an image: 1 to 64 characters of ``[A-Za-z0-9_-]``."""

OperationId = NewType("OperationId", str)
"""A lower-case UUID: one upload or one import of one image."""

CommandId = NewType("CommandId", str)
"""Names one command for ever; the same id twice is the same command, and appends one event."""

GuestDigest = NewType("GuestDigest", str)
"""``guest-disk-v1:`` and 64 lower-case hexadecimal digits: of the guest's disk, whatever the format that holds it."""

PropertyValue = str | int | bool

DIGEST_ALGORITHMS: Mapping[str, int] = {
    name: hashlib.new(name, usedforsecurity=False).digest_size
    for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
}
"""Accepted digest algorithms and their size in bytes; md5 and sha1 only ever compare with what a publisher lists."""

STRONG_DIGESTS = ("sha256", "sha512", "sha384", "sha224")
"""Algorithms whose digests prove that bytes are the same, the fastest first: SHA-256 has instructions of its own."""

CERTIFICATE_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,127}")
"""Of a publisher's certificate, or of a key of the service: it becomes a file's name, and a shell needs no quotes."""

STORE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Of a store, as operators configure it and users choose it."""

_GUEST_DIGEST = re.compile(r"guest-disk-v1:[0-9a-f]{64}")
_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")


class DiskFormat(StrEnum):
    """How the bytes of an image encode a disk (or a part of a machine), in Glance's names."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VDI = "vdi"
    VHD = "vhd"
    VHDX = "vhdx"
    ISO = "iso"
    AKI = "aki"
    AMI = "ami"
    ARI = "ari"
    PLOOP = "ploop"
    OVA = "ova"
    DOCKER = "docker"


ARCHIVES = frozenset({DiskFormat.OVA, DiskFormat.DOCKER})
"""Formats that hold a disk, or what becomes one, as a file among others."""


class ContainerFormat(StrEnum):
    """What wraps the disk, in Glance's names; ``bare`` is no wrapper at all."""

    BARE = "bare"
    OVF = "ovf"
    OVA = "ova"
    AKI = "aki"
    AMI = "ami"
    ARI = "ari"
    DOCKER = "docker"
    COMPRESSED = "compressed"


class Visibility(StrEnum):
    """Who besides the owner may see an image."""

    PRIVATE = "private"
    SHARED = "shared"
    COMMUNITY = "community"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash of some bytes: ``algorithm`` of :data:`DIGEST_ALGORITHMS`, ``hex`` in lower case."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:0123…``.

        Raises:
            InvalidDigestError: for an unknown algorithm, a wrong length or a character that is not hexadecimal.
        """
        algorithm, colon, value = text.partition(":")
        size = DIGEST_ALGORITHMS.get(algorithm)
        if not colon or size is None or not re.fullmatch(rf"[0-9a-fA-F]{{{size * 2}}}", value):
            raise InvalidDigestError(
                f"{text[:80]!r} is not a digest: write ALGORITHM:HEX, with one of {', '.join(DIGEST_ALGORITHMS)}"
            )
        return cls(algorithm, value.lower())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where some bytes are: the configured name of a store, and a key inside it."""

    store: str
    key: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Which stores the bytes shall be in.

    ``stores`` are configured names, the one that is written first at the front; none are the deployment's default.
    With ``in_all`` the deployment's others follow them. With ``all_must_succeed`` it is a failure if one of them fails;
    without it, if all do.
    """

    stores: tuple[str, ...] = ()
    in_all: bool = False
    all_must_succeed: bool = False


MAX_STORES = 32
"""A deployment has no more of them: the names of all have to fit into that of an upload."""

DEFAULT_PLACEMENT = Placement()
"""Nobody said anything: the deployment's default store."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What was read from an image's bytes; ``source`` says where, such as "qcow2 header, bytes 4-7"."""

    value: PropertyValue
    source: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that were written, hashed and inspected in one pass.

    ``digests`` maps an algorithm to lower-case hex. ``virtual_size`` is the size of the guest's disk in bytes, where
    the format holds a disk. ``facts`` is what was read from the bytes, ``guest_digest`` proves the guest's disk; it is
    ``None`` where it is not known yet, or cannot be.
    """

    ref: BlobRef
    size: int
    digests: Mapping[str, str]
    disk_format: DiskFormat
    virtual_size: int | None
    facts: Mapping[str, Fact]
    guest_digest: GuestDigest | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes as they came, before they were decompressed: ``size`` in bytes, ``digests`` as in :class:`Blob`."""

    size: int
    digests: Mapping[str, str]
    compression: str


def guest_digest(text: str) -> GuestDigest | None:
    """Check a guest-disk digest; ``None`` for empty text.

    Raises:
        InvalidDigestError: it is not of the form that ``docs/guest-disk-digest.md`` gives.
    """
    if text and not _GUEST_DIGEST.fullmatch(text):
        raise InvalidDigestError(f"{text[:80]!r} is not a guest-disk digest: write guest-disk-v1:HEX")
    return GuestDigest(text) if text else None


def image_id(text: str) -> ImageId:
    """Check and normalise an image id.

    Raises:
        InvalidIdentifierError: if ``text`` is no UUID.
    """
    return ImageId(uuid_text(text, "image id"))


def operation_id(text: str) -> OperationId:
    """Check and normalise an operation id.

    Raises:
        InvalidIdentifierError: if ``text`` is no UUID.
    """
    return OperationId(uuid_text(text, "operation id"))


def project_id(text: str) -> ProjectId:
    """Check a project id.

    Raises:
        InvalidIdentifierError: if ``text`` has other characters than letters, digits, ``-`` and ``_``, or over 64.
    """
    if not _PROJECT.fullmatch(text):
        raise InvalidIdentifierError(
            f"{text[:80]!r} is not a project id: use 1 to 64 letters, digits, hyphens or underscores"
        )
    return ProjectId(text)


def uuid_text(text: str, what: str) -> str:
    """Check a UUID, and write it in lower case; ``what`` is what it names.

    Raises:
        InvalidIdentifierError: it is none, or is written without hyphens.
    """
    try:
        if len(text) != 36:
            raise ValueError(text)
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidIdentifierError(f"{text[:80]!r} is no {what}: give a UUID with hyphens") from None
