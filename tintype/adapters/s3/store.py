"""The image store in an S3 bucket: a data object of each write, and a marker that makes one of them visible."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tintype.adapters.s3.bucket import Bucket, PendingUpload
from tintype.adapters.s3.client import new_client
from tintype.adapters.s3.examination import examine
from tintype.adapters.s3.inventory import Inventory
from tintype.adapters.s3.layout import Layout, Marker, new_write_id
from tintype.adapters.s3.lease import Lease, read_lease
from tintype.adapters.s3.parts import MIB, MIN_PART
from tintype.adapters.s3.reader import read_object
from tintype.adapters.s3.settings import S3StoreSettings
from tintype.adapters.s3.writer import DataObject, S3Writer
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import AlreadyExistsError, BlobDamagedError, BlobNotFoundError, StoreUnavailableError
from tintype.domain.values import image_id
from tintype.ports.image_store import (
    DirectLocation,
    Finding,
    HandoverKind,
    StoreCapabilities,
    StoredBlob,
    StoreMode,
    StoreSpace,
    StoreState,
)

_GRACE_MIN_S = 3600
_LARGEST_PART_FACTOR = 64


class S3ImageStore:
    """An :class:`~tintype.ports.image_store.ImageStore` in one bucket."""

    def __init__(self, name: str, settings: S3StoreSettings, *, client: Any = None) -> None:
        """``client`` is botocore's; one is made of the settings where there is none.

        Raises:
            ConfigurationError: the secret's file cannot be read.
        """
        self._name = name
        self._settings = settings
        self._layout = Layout(f"{settings.prefix}/" if settings.prefix else "")
        client = client if client is not None else new_client(name, settings)
        self._bucket = Bucket(name, client, settings.bucket, threads=settings.connections)
        # Who reads what was replaced, or has a URL of it, ends before it is removed.
        self._grace = timedelta(seconds=max(settings.presign_expires_max_s, _GRACE_MIN_S))
        self._inventory = Inventory(name, self._bucket, self._layout, self._grace)
        self._since = datetime.now(UTC)

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    @property
    def capabilities(self) -> StoreCapabilities:
        """Objects have no holes; of a killed writer the parts in memory are lost, of which there are three."""
        largest = self._settings.part_size_mib * MIB * _LARGEST_PART_FACTOR
        return StoreCapabilities(is_sparse=False, handover=HandoverKind.PRESIGNED_URL, lost_tail_bytes=3 * largest)

    @property
    def state(self) -> StoreState:
        """A bucket is taken to work until a call fails."""
        return StoreState(StoreMode.READ_WRITE, self._since)

    async def aclose(self) -> None:
        """End the threads and connections."""
        await self._bucket.aclose()

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> S3Writer:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            UploadBusyError: another writer is at it, or was killed and its lease has not lapsed.
            BlobNotFoundError: there is nothing to resume.
            AlreadyExistsError: bytes of that key are committed, and are not to be replaced.
        """
        parsed = BlobKey.parse(key)
        await self._committed_or_replaceable(parsed, replace)
        write = new_write_id()
        lease = Lease(self._bucket, self._layout, parsed, write, self._settings.lease_s)
        try:
            has_lapsed = await lease.acquire()
            # Looked at again: until the lease was ours, another may have committed.
            marker = await self._committed_or_replaceable(parsed, replace)
            base, begin = await self._base(parsed, marker, resume, has_lapsed)
        except BaseException:
            with suppress(StoreUnavailableError):
                await lease.release()
            raise
        return S3Writer(
            self._bucket,
            self._layout,
            parsed,
            lease,
            write,
            first_part=self._settings.part_size_mib * MIB,
            attempts=self._settings.attempts,
            replaced=marker,
            base=base,
            begin=begin,
        )

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            BlobDamagedError: the bytes are gone, or of another size.
            StoreUnavailableError: the store failed, or broke off.
        """
        parsed = BlobKey.parse(key)
        marker = await self._require_marker(parsed)
        name = self._layout.data(parsed, marker.write)
        try:
            async for piece in read_object(self._bucket, name, marker.size, offset, length):
                yield piece
        except BlobNotFoundError:
            if await self._marker(parsed) is None:
                raise  # deleted meanwhile
            raise BlobDamagedError(f"store {self._name!r} has lost the bytes of image {parsed.image_id}") from None

    async def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning.

        Raises:
            BlobNotFoundError: no unfinished write under that key.
        """
        parsed = BlobKey.parse(key)
        marker = await self._marker(parsed)
        lease = await read_lease(self._bucket, self._layout, parsed)
        if lease is None or not lease.is_live:
            await self._settle(parsed, marker)
        found = await self._inventory.unfinished(parsed, marker)
        if not found and lease is None:
            raise BlobNotFoundError(f"store {self._name!r} has no unfinished write of image {parsed.image_id}")
        if found:
            largest = max(found, key=lambda data: data.size)
            name = self._layout.data(parsed, largest.write)
            async for piece in read_object(self._bucket, name, largest.size, 0, None):
                yield piece

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not.

        Raises:
            BlobNotFoundError: nothing.
        """
        parsed = BlobKey.parse(key)
        found = await self._inventory.of_key(parsed)
        if not found:
            raise BlobNotFoundError(f"store {self._name!r} has nothing under that key of image {parsed.image_id}")
        return found[0]

    def local_path(self, key: str) -> Path | None:
        """There are no files."""
        BlobKey.parse(key)
        return None

    async def delete(self, key: str) -> None:
        """Remove all that there is of ``key``; it is no error that there is nothing."""
        parsed = BlobKey.parse(key)
        marker = self._layout.marker(parsed)
        # The lease first: a writer that sees it gone commits no more, or takes its marker back.
        await self._bucket.delete(self._layout.lease(parsed))
        await self._bucket.delete(marker)
        for upload in await self._inventory.uploads(parsed):
            await self._bucket.abort(upload.name, upload.upload_id)
        for area in ("data", "takeovers"):
            for found in await self._bucket.objects(self._layout.area(area, f"{parsed}/")):
                await self._bucket.delete(found.name)
        await self._bucket.delete(marker)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything: committed and not."""
        for stored in await self._inventory.below(f"{image_id(prefix)}/" if prefix else ""):
            yield stored

    async def check(self) -> None:
        """Write an object, read it, remove it.

        Raises:
            StoreUnavailableError: one of that failed; the message says how.
        """
        name = self._layout.area("probes", uuid.uuid4().hex)
        await self._bucket.put(name, name.encode())
        try:
            found = await self._bucket.get_small(name)
        finally:
            await self._bucket.delete(name)
        if found is None or found.data != name.encode():
            raise StoreUnavailableError(f"store {self._name!r} does not give back what was written to it")

    async def examine(self) -> Sequence[Finding]:
        """Access, conditional writes, multipart uploads, clocks, encryption on the way, the bucket's own rules."""
        return await examine(self, self._bucket, self._layout, self._settings)

    async def space(self) -> StoreSpace | None:
        """S3 knows no such thing."""
        return None

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """A presigned URL of the committed bytes, which expires within the site's limit.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            StoreUnavailableError: the store does not answer.
        """
        parsed = BlobKey.parse(key)
        marker = await self._require_marker(parsed)
        seconds = max(1, min(int(expires_in_s), self._settings.presign_expires_max_s))
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        name = self._layout.data(parsed, marker.write)
        # In a thread: credentials of a machine's role are fetched when they have expired.
        url = await self._bucket.run(lambda: self._bucket.presigned(name, seconds))
        return DirectLocation(HandoverKind.PRESIGNED_URL, url, expires_at)

    # ------------------------------------------------------------------------------------------------------------------

    async def _marker(self, key: BlobKey) -> Marker | None:
        found = await self._bucket.get_small(self._layout.marker(key))
        return None if found is None else Marker.decode(found.data)

    async def _require_marker(self, key: BlobKey) -> Marker:
        marker = await self._marker(key)
        if marker is None:
            raise BlobNotFoundError(f"store {self._name!r} has no such bytes of image {key.image_id}")
        return marker

    async def _committed_or_replaceable(self, key: BlobKey, replace: bool) -> Marker | None:
        marker = await self._marker(key)
        if marker is not None and not replace:
            raise AlreadyExistsError(f"bytes of image {key.image_id} are committed under that key")
        return marker

    async def _base(
        self, key: BlobKey, marker: Marker | None, resume: bool, has_lapsed: bool
    ) -> tuple[DataObject | None, bytes]:
        """What a write goes on behind; all else of unfinished writes is removed."""
        base: DataObject | None = None
        if resume:
            await self._settle(key, marker)
            found = await self._inventory.unfinished(key, marker)
            if not found and not has_lapsed:
                raise BlobNotFoundError(f"there is no unfinished write of image {key.image_id} to resume")
            base = max(found, key=lambda data: data.size, default=None)
        for upload in await self._inventory.uploads(key):
            await self._bucket.abort(upload.name, upload.upload_id)
        for data in await self._inventory.unfinished(key, marker):
            if data != base:
                await self._bucket.delete(self._layout.data(key, data.write))
        if base is None or base.size >= MIN_PART:
            return base, b""
        name = self._layout.data(key, base.write)
        return base, b"".join([piece async for piece in read_object(self._bucket, name, base.size, 0, None)])

    async def _settle(self, key: BlobKey, marker: Marker | None) -> None:
        """Make objects of the uploads that killed writers left, as far as their parts go without a gap."""
        for upload in await self._inventory.uploads(key):
            await self._settle_upload(upload)

    async def _settle_upload(self, upload: PendingUpload) -> None:
        parts = await self._bucket.parts(upload.name, upload.upload_id)
        whole = [part for index, part in enumerate(parts) if part.number == index + 1]
        if whole:
            await self._bucket.complete(upload.name, upload.upload_id, whole)
        else:
            await self._bucket.abort(upload.name, upload.upload_id)
