"""The image store in two containers of Swift: segments, which a manifest makes visible; :mod:`.layout` has names."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from tintype.adapters.swift import layout
from tintype.adapters.swift.account import Account
from tintype.adapters.swift.credentials import secret_of
from tintype.adapters.swift.examination import examine
from tintype.adapters.swift.inventory import Contents, Write, all_contents, contents_of
from tintype.adapters.swift.lease import Lease, is_leased
from tintype.adapters.swift.manifest import Manifest, find_manifest
from tintype.adapters.swift.reader import read_object
from tintype.adapters.swift.removal import remove_objects, remove_write
from tintype.adapters.swift.settings import SwiftStoreSettings
from tintype.adapters.swift.writer import IN_FLIGHT, SwiftWriter, Target
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobNotFoundError,
    StoreAccessDeniedError,
    StoreUnavailableError,
    TintypeError,
)
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

log = structlog.get_logger(__name__)

MIB = 1024 * 1024
_THREADS = 2
_PROBE = b"tintype"
_PROBE_KEPT_S = 3600


class SwiftImageStore:
    """An :class:`~tintype.ports.image_store.ImageStore` in one account."""

    def __init__(self, name: str, settings: SwiftStoreSettings) -> None:
        """On the running event loop. Nothing is asked yet.

        Raises:
            ConfigurationError, KeyPermissionsError: a file that the settings name cannot be used.
        """
        self._name = name
        self._settings = settings
        self._container = settings.container
        self._segments = f"{settings.container}_segments"
        path = settings.temp_url_key_file
        self._temp_url_key = None if path is None else secret_of(name, "temp_url_key_file", path).encode()
        self._account = Account(name, settings)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"store-{name}")
        self._target = Target(
            self._account,
            self._container,
            self._segments,
            self._threads,
            settings.segment_size_mib * MIB,
            settings.attempts,
        )
        self._since = datetime.now(UTC)
        self._are_to_be_made = settings.create_containers
        self._leases: list[Lease] = []

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    @property
    def capabilities(self) -> StoreCapabilities:
        """Zeros are stored as they are; what a killed writer had in memory is lost."""
        return StoreCapabilities(
            is_sparse=False,
            handover=None if self._temp_url_key is None else HandoverKind.PRESIGNED_URL,
            lost_tail_bytes=(IN_FLIGHT + 1) * self._target.segment_size,
        )

    @property
    def state(self) -> StoreState:
        """Swift is taken to work until a call fails."""
        return StoreState(StoreMode.READ_WRITE, self._since)

    async def prepare(self) -> None:
        """Make the containers, where the settings say so; if Swift is away, as soon as it is back.

        Raises:
            StoreAccessDeniedError: they may not be made.
        """
        try:
            await self._make_containers()
        except StoreAccessDeniedError:
            raise
        except StoreUnavailableError as exc:
            log.warning("containers are not made yet", store=self._name, reason=exc.reason, error=str(exc))

    async def aclose(self) -> None:
        """End the connections and threads; the leases of writers that were not ended lapse by themselves."""
        for lease in self._leases:
            await lease.abandon()
        await self._account.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> SwiftWriter:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            UploadBusyError: another writer is at it.
            BlobNotFoundError: there is nothing to resume.
            AlreadyExistsError: bytes of that key are committed, and are not to be replaced.
        """
        parsed = BlobKey.parse(key)
        await self._make_containers()
        write = "" if resume else layout.new_write_id()
        lease = Lease(self._account, self._segments, parsed, self._settings.lease_s, write)
        await lease.acquire()
        try:
            writer = await self._opened(parsed, lease, write, replace)
        except BaseException:
            with suppress(TintypeError):
                await lease.release()
            raise
        self._leases = [*(held for held in self._leases if held.is_kept), lease]
        return writer

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            BlobDamagedError: a segment is missing, or is not what was committed.
        """
        path = f"/{self._container}/{layout.manifest_name(BlobKey.parse(key))}"
        try:
            async for piece in read_object(self._account, path, offset=offset, length=length):
                yield piece
        except BlobNotFoundError:
            await self._require_container()
            raise

    async def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning.

        Raises:
            BlobNotFoundError: no unfinished write under that key.
        """
        parsed = BlobKey.parse(key)
        write, _ = await self._unfinished(parsed)
        if write is None:
            if not await is_leased(self._account, self._segments, parsed):
                raise self._nothing(parsed)
            return
        for number in range(len(write.contiguous())):
            path = f"/{self._segments}/{layout.segment_name(parsed, write.id, number)}"
            async for piece in read_object(self._account, path, offset=0, length=None):
                yield piece

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not.

        Raises:
            BlobNotFoundError: nothing.
        """
        parsed = BlobKey.parse(key)
        manifest = await find_manifest(self._account, self._container, parsed)
        if manifest is not None:
            return StoredBlob(key, manifest.size, True, manifest.modified_at)
        found = [stored async for stored in self._stored(await contents_of(self._account, self._segments, parsed))]
        if not found:
            raise self._nothing(parsed)
        return found[0]

    def local_path(self, key: str) -> Path | None:
        """There are no files."""
        BlobKey.parse(key)
        return None

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not; it is no error that there are none.

        The lease goes first: a writer whose lease is gone does not commit. A manifest that it put in that very moment
        is looked for again at the end.
        """
        parsed = BlobKey.parse(key)
        manifest = f"/{self._container}/{layout.manifest_name(parsed)}"
        await self._account.call("DELETE", f"/{self._segments}/{layout.lease_name(parsed)}", expect=(404, 409))
        found = await self._account.call("DELETE", manifest, expect=(404, 409))
        names = {item["name"] async for item in self._account.list(self._segments, f"{parsed}/")}
        await remove_objects(self._account, self._segments, names)
        if found.status != 404 or names:
            await self._account.call("DELETE", manifest, expect=(404, 409))

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything: committed and not.

        What replacements took the place of is removed on the way, once nobody can be reading it any more.
        """
        image = image_id(prefix) if prefix else ""
        async for contents in all_contents(self._account, self._container, self._segments, image):
            async for stored in self._stored(contents):
                yield stored

    async def check(self) -> None:
        """Find out whether both containers can be written and read.

        Raises:
            StoreUnavailableError: they cannot; the message says what is wrong.
        """
        await self._make_containers()
        for container in (self._container, self._segments):
            path = f"/{container}/{layout.PROBES}{uuid.uuid4().hex}"
            headers = {"X-Delete-After": str(_PROBE_KEPT_S)}
            await self._account.call("PUT", path, headers=headers, body=(_PROBE,))
            try:
                found = await self._account.call("GET", path, headers={"X-Newest": "true"})
                if found.body != _PROBE:
                    raise StoreUnavailableError(f"store {self._name!r} does not give back what was written")
            finally:
                await self._account.call("DELETE", path, expect=(404,))

    async def examine(self) -> Sequence[Finding]:
        """Everything that an operator should know of the account and its containers."""
        return await examine(self, self._account, self._settings, self._temp_url_key)

    async def space(self) -> StoreSpace | None:
        """What the account's quota leaves; ``None`` where it has none that the service may see.

        Raises:
            StoreUnavailableError: Swift does not answer.
        """
        headers = (await self._account.call("HEAD", "", expect=(403,))).headers
        quota, used = (headers.get(f"X-Account-{name}", "") for name in ("Meta-Quota-Bytes", "Bytes-Used"))
        if not all(text.isascii() and text.isdigit() and len(text) <= 19 for text in (quota, used)):
            return None
        return StoreSpace(max(0, int(quota) - int(used)), int(quota))

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """A temporary URL, for whoever has it; ``None`` without a key to sign it with.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            StoreUnavailableError: Swift does not answer.
        """
        parsed = BlobKey.parse(key)
        if await find_manifest(self._account, self._container, parsed) is None:
            raise self._nothing(parsed)
        if self._temp_url_key is None:
            return None
        url = await self._account.url(f"/{self._container}/{layout.manifest_name(parsed)}")
        seconds = max(1, min(int(expires_in_s), self._settings.temp_url_expires_max_s))
        expires = int(time.time()) + seconds
        signed = f"GET\n{expires}\n{urlsplit(url).path}".encode()
        signature = hmac.new(self._temp_url_key, signed, hashlib.sha256).hexdigest()
        return DirectLocation(
            HandoverKind.PRESIGNED_URL,
            f"{url}?temp_url_sig={signature}&temp_url_expires={expires}",
            datetime.fromtimestamp(expires, UTC),
        )

    async def _make_containers(self) -> None:
        if self._are_to_be_made:
            for container in (self._container, self._segments):
                await self._account.call("PUT", f"/{container}")
            self._are_to_be_made = False

    # --- writes -------------------------------------------------------------------------------------------------------

    async def _opened(self, key: BlobKey, lease: Lease, write: str, replace: bool) -> SwiftWriter:
        """A writer of the new ``write``; without one, of the unfinished one that is there."""
        unfinished, others = await self._unfinished(key, replace=replace)
        if write:
            for name in others | ({unfinished.id} if unfinished else set()):
                await remove_write(self._account, self._segments, key, name)
            return SwiftWriter(self._target, key, write, lease, replace=replace)
        if unfinished is None:
            raise BlobNotFoundError(f"there is no unfinished write of image {key.image_id} to resume")
        await lease.tell(unfinished.id)
        segments = unfinished.contiguous()
        beyond = [number for number in unfinished.segments if number >= len(segments)]
        names = [layout.segment_name(key, unfinished.id, number) for number in beyond]
        await remove_objects(self._account, self._segments, names)
        return SwiftWriter(self._target, key, unfinished.id, lease, segments, replace=replace)

    async def _unfinished(self, key: BlobKey, *, replace: bool = True) -> tuple[Write | None, set[str]]:
        """The newest write that no manifest names, and the others."""
        manifest = await find_manifest(self._account, self._container, key)
        if manifest is not None and not replace:
            raise AlreadyExistsError(f"bytes of image {key.image_id} are committed under that key")
        contents = await contents_of(self._account, self._segments, key)
        named = _named(manifest)
        newest = contents.newest(named)
        others = {name for name in contents.writes if name not in named and (not newest or name != newest.id)}
        return newest, others

    # --- lists --------------------------------------------------------------------------------------------------------

    async def _stored(self, contents: Contents) -> AsyncIterator[StoredBlob]:
        key = str(contents.key)
        named: frozenset[str] = frozenset()
        if contents.committed_size is not None and contents.modified_at is not None:
            yield StoredBlob(key, contents.committed_size, True, contents.modified_at)
            named = await self._named_writes(contents)
        write = contents.newest(named)
        times = [at for at in (write.modified_at if write else None, contents.lease_at) if at is not None]
        is_held = contents.lease_at is not None and await is_leased(self._account, self._segments, contents.key)
        # Beside committed bytes a lapsed lease is nothing: Swift removes it by itself.
        if write is not None or is_held or (times and contents.committed_size is None):
            yield StoredBlob(key, write.size if write else 0, False, max(times), is_held)

    async def _named_writes(self, contents: Contents) -> frozenset[str]:
        """Those of the committed object. Only where there are several has it to be asked which one it is of."""
        if len(contents.writes) <= 1 and contents.committed_size:
            return frozenset(contents.writes)
        manifest = await find_manifest(self._account, self._container, contents.key)
        if manifest is not None and manifest.age_s >= self._settings.retired_s:
            for name in manifest.retired:
                if name in contents.writes and name != manifest.write:
                    await remove_write(self._account, self._segments, contents.key, name)
        return _named(manifest)

    async def _require_container(self) -> None:
        """Tell an object that is not there from a container that is not.

        Raises:
            StoreMissingError: the container is not there.
        """
        await self._account.call("HEAD", f"/{self._container}")

    def _nothing(self, key: BlobKey) -> BlobNotFoundError:
        return BlobNotFoundError(f"store {self._name!r} has no such bytes of image {key.image_id}")


def _named(manifest: Manifest | None) -> frozenset[str]:
    return frozenset() if manifest is None else frozenset((manifest.write, *manifest.retired))
