"""What a volume's metadata says of the bytes in it, and what follows from that. Pure.

``tintype_store``, ``tintype_image``, ``tintype_key``, ``tintype_state``, ``tintype_size``, ``tintype_generation``, and
for each process that has or wants the volume attached ``tintype_lease_HOLDER``: ``KIND EXPIRY [ATTACHMENT]``. Each is a
row of its own in Cinder's database, so that writers of different ones never undo each other. Whoever may change the
project's volumes may have written any of it: what does not parse belongs to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import InvalidIdentifierError, StoreUnavailableError

GIB = 1 << 30
PREFIX = "tintype_"
LEASE_PREFIX = "tintype_lease_"
MAX_SIZE_BYTES = 1 << 53
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(_UUID)
_LEASE = re.compile(rf"([wr]) ([0-9]{{1,12}})(?: ({_UUID}))?")
_NUMBER = re.compile(r"[0-9]{1,16}")


class BlobState(StrEnum):
    """Where the bytes of a volume are on their way."""

    WRITING = "writing"
    COMMITTED = "committed"
    DELETING = "deleting"
    """Invisible already; the volume goes as soon as nobody has it attached."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Until ``expires`` (seconds since 1970) ``holder`` lives; its attachment, once it has one."""

    holder: str
    is_writer: bool
    expires: int
    attachment: str = ""

    def is_live(self, now: float) -> bool:
        """Whether its holder is to be left alone."""
        return now < self.expires

    @property
    def item(self) -> dict[str, str]:
        """The lease as metadata."""
        value = f"{'w' if self.is_writer else 'r'} {self.expires} {self.attachment}".rstrip()
        return {f"{LEASE_PREFIX}{self.holder}": value}


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of this store: what Cinder says of it, and what its metadata does."""

    id: str
    status: str
    size_gib: int
    modified_at: datetime
    created_at: str
    is_multiattach: bool
    key: str
    image: str
    state: BlobState
    size: int
    generation: int
    leases: tuple[Lease, ...]

    def has_live_writer(self, now: float, *, but: str = "") -> bool:
        """Whether a writer other than ``but`` lives."""
        return any(lease.is_writer and lease.is_live(now) and lease.holder != but for lease in self.leases)

    def lease_of(self, holder: str) -> Lease | None:
        """That holder's lease."""
        return next((lease for lease in self.leases if lease.holder == holder), None)


def metadata_of(store: str, key: BlobKey, *, generation: int, lease: Lease) -> dict[str, str]:
    """The metadata of a volume that is to be written."""
    return {
        f"{PREFIX}store": store,
        f"{PREFIX}image": str(key.image_id),
        f"{PREFIX}key": str(key),
        f"{PREFIX}state": BlobState.WRITING,
        f"{PREFIX}size": "0",
        f"{PREFIX}generation": str(generation),
        **lease.item,
    }


def parse_volume(answer: Mapping[str, Any], store: str) -> Volume | None:
    """Read Cinder's description of a volume; ``None`` where it is none of this store's.

    Raises:
        StoreUnavailableError: it is no description of a volume.
    """
    metadata = answer.get("metadata")
    if not isinstance(metadata, Mapping) or metadata.get(f"{PREFIX}store") != store:
        return None
    try:
        key = BlobKey.parse(str(metadata.get(f"{PREFIX}key", "")))
        state = BlobState(str(metadata.get(f"{PREFIX}state")))
    except (InvalidIdentifierError, ValueError):
        return None
    return Volume(
        id=parse_id(answer.get("id")),
        status=str(answer.get("status", ""))[:40],
        size_gib=_size_gib(answer.get("size")),
        modified_at=_time(answer.get("updated_at") or answer.get("created_at")),
        created_at=str(answer.get("created_at", ""))[:40],
        is_multiattach=answer.get("multiattach") is True,
        key=str(key),
        image=str(key.image_id),
        state=state,
        size=_number(metadata.get(f"{PREFIX}size")),
        generation=_number(metadata.get(f"{PREFIX}generation")),
        leases=_leases(metadata),
    )


def parse_id(value: object) -> str:
    """An id of Cinder's, which becomes part of a URL.

    Raises:
        StoreUnavailableError: it is no UUID.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise StoreUnavailableError("Cinder answered with an id that is no UUID")
    return value


def current(volumes: Iterable[Volume]) -> Volume | None:
    """Of a key's volumes, the committed one that counts: the one of the greatest generation."""
    committed = [volume for volume in volumes if volume.state is BlobState.COMMITTED]
    return max(committed, key=lambda volume: (volume.generation, volume.id), default=None)


def superseded(volumes: Sequence[Volume]) -> list[Volume]:
    """Of a key's volumes, those that nothing will ever read again, because others were committed in their place."""
    counts = current(volumes)
    if counts is None:
        return []
    replaced = (BlobState.COMMITTED, BlobState.DELETING)
    return [volume for volume in volumes if volume.id != counts.id and volume.state in replaced]


def unfinished(volumes: Iterable[Volume]) -> Volume | None:
    """Of a key's volumes, the one whose writing can be gone on with."""
    writing = [volume for volume in volumes if volume.state is BlobState.WRITING]
    return max(writing, key=lambda volume: (volume.generation, volume.created_at, volume.id), default=None)


def orphans(attachments: Iterable[str], leases: Iterable[Lease], now: float, *, but: str = "") -> list[str]:
    """Of a volume's attachments, those that nobody alive has.

    A holder writes its lease before it asks for an attachment, and the attachment's id into the lease afterwards. So
    while a holder other than ``but`` lives and has none yet, each attachment that no lease names may be its own.
    """
    live = [lease for lease in leases if lease.is_live(now)]
    if any(not lease.attachment and lease.holder != but for lease in live):
        return []
    named = {lease.attachment for lease in live}
    return [attachment for attachment in attachments if attachment not in named]


def _leases(metadata: Mapping[str, Any]) -> tuple[Lease, ...]:
    found = []
    for name, value in metadata.items():
        if name.startswith(LEASE_PREFIX) and (parts := _LEASE.fullmatch(str(value))):
            holder = name.removeprefix(LEASE_PREFIX)
            found.append(Lease(holder, parts[1] == "w", int(parts[2]), parts[3] or ""))
    return tuple(found)


def _number(value: object) -> int:
    text = str(value)
    return min(int(text), MAX_SIZE_BYTES) if _NUMBER.fullmatch(text) else 0


def _size_gib(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= MAX_SIZE_BYTES // GIB:
        raise StoreUnavailableError("Cinder answered with a volume of no size")
    return value


def _time(value: object) -> datetime:
    try:
        return datetime.fromisoformat(str(value)).replace(tzinfo=UTC)
    except ValueError:
        raise StoreUnavailableError("Cinder answered with a time that is none") from None
