"""What is in the bucket, put together from markers, data objects, multipart uploads and leases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from tintype.adapters.s3.bucket import Bucket, ListedObject, PendingUpload
from tintype.adapters.s3.layout import Layout, Marker
from tintype.adapters.s3.lease import LeaseState, read_lease
from tintype.adapters.s3.writer import DataObject
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import BlobDamagedError
from tintype.ports.image_store import StoredBlob


@dataclass(slots=True)
class _Found:
    """All that there is of one key."""

    marker: ListedObject | None = None
    data: dict[str, ListedObject] = field(default_factory=dict)
    uploads: list[PendingUpload] = field(default_factory=list)
    has_lease: bool = False
    takeovers: list[ListedObject] = field(default_factory=list)


class Inventory:
    """Of one store; what was replaced longer ago than ``grace`` is removed when it is met."""

    def __init__(self, store: str, bucket: Bucket, layout: Layout, grace: timedelta) -> None:
        self._store = store
        self._bucket = bucket
        self._layout = layout
        self._grace = grace

    async def of_key(self, key: BlobKey) -> Sequence[StoredBlob]:
        """What is committed under a key, and then what is not."""
        return [stored for stored in await self.below(str(key)) if stored.key == str(key)]

    async def below(self, prefix: str) -> Sequence[StoredBlob]:
        """Everything whose key begins so, in the order of keys."""
        found: dict[str, _Found] = defaultdict(_Found)
        # Uploads before data, and data before markers: what is committed meanwhile is seen once at least.
        for upload in await self._bucket.uploads(self._layout.area("data", prefix)):
            if parsed := self._layout.parse("data", upload.name):
                found[str(parsed[0])].uploads.append(upload)
        for area in ("data", "takeovers", "leases", "blobs"):
            for item in await self._bucket.objects(self._layout.area(area, prefix)):
                if parsed := self._layout.parse(area, item.name):
                    _note(found[str(parsed[0])], area, parsed[1], item)
        stored: list[StoredBlob] = []
        for text in sorted(found):
            stored += await self._stored(BlobKey.parse(text), found[text])
        return stored

    async def uploads(self, key: BlobKey) -> Sequence[PendingUpload]:
        """The multipart uploads of a key."""
        begin = self._layout.area("data", f"{key}/")
        return [upload for upload in await self._bucket.uploads(begin) if self._layout.parse("data", upload.name)]

    async def unfinished(self, key: BlobKey, marker: Marker | None) -> Sequence[DataObject]:
        """The data objects of a key that no marker names."""
        named = {marker.write, *marker.retired} if marker is not None else set()
        objects = await self._bucket.objects(self._layout.area("data", f"{key}/"))
        parsed = [(self._layout.parse("data", item.name), item) for item in objects]
        return [DataObject(name[1], item.size) for name, item in parsed if name and name[1] not in named]

    async def _stored(self, key: BlobKey, found: _Found) -> Sequence[StoredBlob]:
        stored: list[StoredBlob] = []
        named: set[str] = set()
        if found.marker is not None:
            committed, named = await self._committed(key, found)
            stored += committed
        lease = await read_lease(self._bucket, self._layout, key) if found.has_lease else None
        size, times = 0, [lease.modified_at] if lease else []
        for write, item in found.data.items():
            if write not in named:
                size, times = max(size, item.size), [*times, item.modified_at]
        for upload in list(found.uploads):
            parsed = self._layout.parse("data", upload.name)
            if parsed and parsed[1] in named:
                # Begun a second time, as the answer to the first was lost, and committed since.
                await self._bucket.abort(upload.name, upload.upload_id)
                found.uploads.remove(upload)
                continue
            parts = await self._bucket.parts(upload.name, upload.upload_id)
            size, times = max(size, sum(part.size for part in parts)), [*times, upload.begun_at]
        times += [item.modified_at for item in found.takeovers]
        if times and not (stored and await self._is_only_lapsed(key, found, named, lease)):
            is_leased = lease is not None and lease.is_live
            stored.append(StoredBlob(str(key), size, False, max(times), is_leased))
        return stored

    async def _is_only_lapsed(self, key: BlobKey, found: _Found, named: set[str], lease: LeaseState | None) -> bool:
        """Beside committed bytes: whether only a dead writer's lease is left, which is removed then."""
        if found.uploads or found.takeovers or set(found.data) - named or lease is None or lease.is_live:
            return False
        await self._bucket.delete(self._layout.lease(key))
        return True

    async def _committed(self, key: BlobKey, found: _Found) -> tuple[list[StoredBlob], set[str]]:
        """The committed bytes, if they still are, and the writes that their marker names."""
        assert found.marker is not None
        if len(found.data) == 1 and not found.uploads and not found.has_lease:
            # The usual case, without a call: the one object is what the marker names, or it has lost its own.
            (write, item), *_ = found.data.items()
            return [StoredBlob(str(key), item.size, True, found.marker.modified_at)], {write}
        try:
            small = await self._bucket.get_small(self._layout.marker(key))
            if small is None:
                return [], set()  # deleted meanwhile
            marker = Marker.decode(small.data)
        except BlobDamagedError:
            return [StoredBlob(str(key), 0, True, found.marker.modified_at)], set(found.data)
        if small.age > self._grace:
            for write in set(marker.retired) & set(found.data):
                await self._bucket.delete(self._layout.data(key, write))
        named = {marker.write, *marker.retired}
        return [StoredBlob(str(key), marker.size, True, small.modified_at)], named


def _note(found: _Found, area: str, write: str, item: ListedObject) -> None:
    match area:
        case "data":
            found.data[write] = item
        case "takeovers":
            found.takeovers.append(item)
        case "leases":
            found.has_lease = True
        case _:
            found.marker = item
