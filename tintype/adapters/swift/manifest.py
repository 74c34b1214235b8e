"""The object that makes bytes visible: what it says of itself, and how it is put."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import md5

from tintype.adapters.swift import layout
from tintype.adapters.swift.account import Account, Reply
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import AlreadyExistsError, BlobDamagedError

RETIRED_MAX = 7
"""Writes that a manifest can name as those whose place it took: a value of metadata has 256 characters at most."""

_META = "X-Object-Meta-Tintype-"
_SEGMENTS_MAX = 10**8


@dataclass(frozen=True, slots=True)
class Segment:
    """What is in one object, as Swift told when it was put: its size in bytes and its MD5."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is committed. ``age_s`` is how long it has been there, by Swift's own clock."""

    write: str
    segments: int
    size: int
    modified_at: datetime
    age_s: float
    retired: tuple[str, ...] = ()

    @classmethod
    def of(cls, reply: Reply) -> Manifest:
        """Read the headers, which anybody who may write to the container may have written.

        Raises:
            BlobDamagedError: they are not those of a manifest.
        """
        headers = reply.headers
        try:
            modified_at = parsedate_to_datetime(headers["Last-Modified"]).astimezone(UTC)
            now = parsedate_to_datetime(headers["Date"]).astimezone(UTC)
            found = cls(
                headers[f"{_META}Write"],
                _number(headers[f"{_META}Segments"]),
                _number(headers["Content-Length"]),
                modified_at,
                max(0.0, (now - modified_at).total_seconds()),  # the header rounds up
                tuple(name for name in headers.get(f"{_META}Retired", "").split(",") if name),
            )
        except (KeyError, ValueError, TypeError, IndexError, OverflowError):
            raise BlobDamagedError("what marks stored bytes as committed cannot be read") from None
        if not all(map(layout.is_write_id, (found.write, *found.retired))) or found.segments > _SEGMENTS_MAX:
            raise BlobDamagedError("what marks stored bytes as committed cannot be read")
        return found


async def find_manifest(account: Account, container: str, key: BlobKey) -> Manifest | None:
    """What is committed under ``key``; ``None`` where nothing is.

    Raises:
        BlobDamagedError: something that the store did not put is there.
        StoreUnavailableError: the store failed.
    """
    path = f"/{container}/{layout.manifest_name(key)}"
    reply = await account.call("HEAD", path, headers={"X-Newest": "true"}, expect=(404,))
    return None if reply.status == 404 else Manifest.of(reply)


@dataclass(frozen=True, slots=True)
class ManifestWriter:
    """Puts the manifest of one write; ``retired`` are the writes that it takes the place of."""

    account: Account
    container: str
    segments_container: str
    key: BlobKey
    write: str

    async def put(self, segments: Sequence[Segment], *, retired: Sequence[str] | None) -> bool:
        """Make the bytes visible, in the place of others only where ``retired`` is given.

        ``False``, and nothing is visible: a segment was removed.

        Raises:
            AlreadyExistsError: bytes of that key are committed.
            BlobDamagedError: a segment is not what was sent.
            StoreUnavailableError, StoreFullError: the store refused or failed.
        """
        entries = await self._grouped(
            [
                {
                    "path": f"/{self.segments_container}/{layout.segment_name(self.key, self.write, number)}",
                    "etag": segment.etag,
                    "size_bytes": segment.size,
                }
                for number, segment in enumerate(segments)
            ]
        )
        headers = {
            f"{_META}Write": self.write,
            f"{_META}Segments": str(len(segments)),
            "Content-Type": "application/octet-stream",
        }
        if retired is None:
            headers["If-None-Match"] = "*"
        elif retired:
            headers[f"{_META}Retired"] = ",".join(retired[:RETIRED_MAX])
        path = f"/{self.container}/{layout.manifest_name(self.key)}"
        return entries is not None and await self._put(path, entries, headers)

    async def _grouped(self, entries: list[Mapping[str, object]]) -> list[Mapping[str, object]] | None:
        """As many entries as one manifest can have: of more, manifests are made that this one names.

        ``None``: a segment was removed.
        """
        info = await self.account.info()
        slo = info.get("slo")
        told = slo.get("max_manifest_segments") if isinstance(slo, Mapping) else None
        most = told if isinstance(told, int) and 2 <= told <= 100_000 else 1000
        if len(entries) <= most:
            return entries
        groups: list[Mapping[str, object]] = []
        for begin in range(0, len(entries), most):
            group = entries[begin : begin + most]
            path = f"/{self.segments_container}/{layout.group_name(self.key, self.write, len(groups))}"
            if not await self._put(path, group, {"Content-Type": "application/octet-stream"}):
                return None
            # As Swift makes the ETag of a manifest.
            etag = md5("".join(str(entry["etag"]) for entry in group).encode(), usedforsecurity=False).hexdigest()
            size = sum(int(str(entry["size_bytes"])) for entry in group)
            groups.append({"path": path, "etag": etag, "size_bytes": size})
        return groups

    async def _put(self, path: str, entries: Sequence[Mapping[str, object]], headers: Mapping[str, str]) -> bool:
        query = {"multipart-manifest": "put"} if entries else {}  # a manifest of nothing is refused
        body = (json.dumps(entries).encode(),) if entries else ()
        reply = await self.account.call("PUT", path, query=query, headers=headers, body=body, expect=(400, 409, 412))
        if reply.status in (409, 412):
            raise AlreadyExistsError(f"bytes of image {self.key.image_id} are committed under that key")
        if reply.status == 400 and b"404 Not Found" not in reply.body:
            raise BlobDamagedError("what is stored is not what was sent")
        return reply.status != 400


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError(text)
    return int(text)
