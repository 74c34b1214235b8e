"""The image store in volumes of OpenStack Block Storage (Cinder): one volume for each key.

The instant of a commit is one write of the volume's metadata. Of several committed volumes of a key the one of the
greatest generation counts, so that a replacement takes effect with that same write.

Cinder has no conditional writes. A writer therefore puts its lease into the volume's metadata first, looks afterwards,
and steps back where it sees another's: of two that come at once at least one sees the other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tintype.adapters.cinder.attaching import Attaching
from tintype.adapters.cinder.attachment import Attachments
from tintype.adapters.cinder.examine import Examination, quota_space
from tintype.adapters.cinder.leases import Held, Leases
from tintype.adapters.cinder.readers import Readers
from tintype.adapters.cinder.records import (
    PREFIX,
    BlobState,
    Volume,
    current,
    metadata_of,
    superseded,
    unfinished,
)
from tintype.adapters.cinder.volumes import Api, Volumes
from tintype.adapters.cinder.writer import CHECKPOINT_BYTES, CinderWriter
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobNotFoundError,
    StoreBusyError,
    TintypeError,
    UploadBusyError,
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


class CinderImageStore:
    """An :class:`~tintype.ports.image_store.ImageStore` in the volumes of one project."""

    def __init__(
        self,
        name: str,
        api: Api,
        attaching: Attaching,
        *,
        volume_type: str = "",
        timeout_s: float = 30.0,
        wait_s: float = 120.0,
        lease_s: float = 60.0,
        max_attachments: int = 32,
        probe_attach: bool = True,
    ) -> None:
        self._name = name
        self._volume_type = volume_type
        self._probe_attach = probe_attach
        self._since = datetime.now(UTC)
        self._volumes = Volumes(name, api, timeout_s=timeout_s, wait_s=wait_s)
        self._leases = Leases(self._volumes, lease_s)
        self._attachments = Attachments(
            self._volumes, self._leases, attaching, timeout_s=timeout_s, limit=max_attachments
        )
        self._readers = Readers(self._leases, self._attachments, self._left)
        self._writers: dict[str, CinderWriter] = {}
        self._doomed: set[str] = set()

    @property
    def name(self) -> str:
        """The configured name."""
        return self._name

    @property
    def capabilities(self) -> StoreCapabilities:
        """A compute service clones the volume; whether zeros take room is the driver's affair."""
        return StoreCapabilities(is_sparse=False, handover=HandoverKind.CINDER, lost_tail_bytes=CHECKPOINT_BYTES)

    @property
    def state(self) -> StoreState:
        """Cinder is taken to work until a call fails."""
        return StoreState(StoreMode.READ_WRITE, self._since)

    async def open_write(self, key: str, *, resume: bool = False, replace: bool = False) -> CinderWriter:
        """Begin a staged write, or go on with an interrupted one.

        Raises:
            UploadBusyError: another writer is at it, or came at the same moment.
            BlobNotFoundError: there is nothing to resume.
            AlreadyExistsError: bytes of that key are committed, and are not to be replaced.
            StoreFullError, StoreUnavailableError: no volume can be made or attached.
        """
        parsed = BlobKey.parse(key)
        there = await self._volumes.of_key(key)
        if current(there) is not None and not replace:
            raise AlreadyExistsError("bytes are committed under that key")
        _require_no_writer(there)
        held = self._leases.new(is_writer=True)
        if resume:
            return await self._resume(there, held)
        return await self._begin(parsed, there, held, is_replacement=replace)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield committed bytes from ``offset``, ``length`` at most, in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: nothing committed under that key.
            BlobDamagedError: the storage cannot read some of them.
            StoreBusyError: the volume cannot be attached twice, and another host has it.
        """
        BlobKey.parse(key)
        return self._read(key, offset, length)

    async def read_uncommitted(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an unfinished write from the beginning.

        Raises:
            BlobNotFoundError: no unfinished write under that key.
        """
        BlobKey.parse(key)
        volume = unfinished(await self._volumes.of_key(key))
        if volume is None:
            raise BlobNotFoundError(f"store {self._name!r} has no such bytes")
        async for piece in self._readers.pieces(volume.id, 0, volume.size):
            yield piece

    async def stat(self, key: str) -> StoredBlob:
        """What is under ``key``, committed or not.

        Raises:
            BlobNotFoundError: nothing.
        """
        BlobKey.parse(key)
        there = await self._volumes.of_key(key)
        volume = current(there) or unfinished(there) or next(iter(there), None)
        if volume is None:
            raise BlobNotFoundError(f"store {self._name!r} has nothing under that key")
        return _stored(volume)

    def local_path(self, key: str) -> Path | None:
        """There are no files."""
        BlobKey.parse(key)
        return None

    async def delete(self, key: str) -> None:
        """Remove the bytes of ``key``, committed or not. What this process reads now goes when it has been read.

        Raises:
            StoreBusyError: another host reads them, or they have snapshots; they are invisible already.
        """
        BlobKey.parse(key)
        for volume in await self._volumes.of_key(key):
            await self._delete(volume)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Yield all that is stored under an image's id, or under everything: committed and not.

        What a killed replacement or deletion left behind beside bytes that count is removed.
        """
        filters = {"image": str(image_id(prefix))} if prefix else {}
        by_key: dict[str, list[Volume]] = {}
        async for volume in self._volumes.matching(**filters):
            if not prefix or volume.image == prefix:
                by_key.setdefault(volume.key, []).append(volume)
        for key in sorted(by_key):
            left_over = superseded(by_key[key])
            for volume in left_over:
                await self._delete_quietly(volume)
            for volume in by_key[key]:
                if volume not in left_over:
                    yield _stored(volume)

    async def check(self) -> None:
        """Find out whether Cinder answers, and os-brick knows this host.

        Raises:
            StoreUnavailableError: it does not.
        """
        await self._volumes.call("GET", "/volumes?limit=1")
        await self._attachments.properties()

    async def examine(self) -> Sequence[Finding]:
        """Sign-in, version, type, quota, os-brick, and the attaching of a volume."""
        examination = Examination(self._volumes, self._attachments, self._volume_type)
        probe = self._probe if self._probe_attach else None
        return await examination.findings(probe)

    async def space(self) -> StoreSpace | None:
        """What is left of the project's quota; ``None`` where it has none.

        Raises:
            StoreUnavailableError: Cinder does not answer.
        """
        return await quota_space(self._volumes)

    async def locate(self, key: str, *, expires_in_s: float) -> DirectLocation | None:
        """The volume, which a compute service clones with its own credentials.

        Raises:
            BlobNotFoundError: nothing committed under that key.
        """
        BlobKey.parse(key)
        return DirectLocation(HandoverKind.CINDER, f"cinder://{(await self._current(key)).id}")

    async def aclose(self) -> None:
        """End its threads and leases. What is attached still, is so until its lease lapses."""
        for writer in list(self._writers.values()):
            await writer.close()
        await self._leases.aclose()
        await self._attachments.aclose()
        await self._volumes.aclose()

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _begin(self, key: BlobKey, there: Sequence[Volume], held: Held, *, is_replacement: bool) -> CinderWriter:
        for volume in there:
            if volume.state is not BlobState.COMMITTED:
                await self._delete(volume)
        generation = 1 + max((volume.generation for volume in there), default=0)
        metadata = metadata_of(self._name, key, generation=generation, lease=self._leases.written(held))
        made = await self._volumes.create(f"tintype {key}", metadata, self._volume_type)
        try:
            now = await self._volumes.of_key(str(key))
            if current(now) is not None and not is_replacement:
                raise AlreadyExistsError("bytes are committed under that key")
            _require_no_writer(now, but=held.holder)
            return await self._open(made, held, is_fresh=True)
        except BaseException:
            await self._delete_quietly(made)
            raise

    async def _resume(self, there: Sequence[Volume], held: Held) -> CinderWriter:
        volume = unfinished(there)
        if volume is None:
            raise BlobNotFoundError("there is no unfinished write to resume")
        await self._leases.write(volume.id, held)
        try:
            volume = await self._volumes.get(volume.id)
            _require_no_writer([volume], but=held.holder)
            await self._attachments.remove_orphans(volume.id, but=held.holder)
            return await self._open(volume, held, is_fresh=False)
        except BaseException:
            await self._leases.release(volume.id, held)
            raise

    async def _open(self, volume: Volume, held: Held, *, is_fresh: bool) -> CinderWriter:
        attachment = await self._attachments.attach(volume.id, held)
        parts = (self._volumes, self._leases, self._attachments)
        writer = CinderWriter(
            volume,
            held,
            attachment,
            parts,
            is_fresh=is_fresh,
            remove=self._remove_aborted,
            committed=self._settle,
            ended=self._forget,
        )
        self._writers[volume.id] = writer
        return writer

    def _forget(self, writer: CinderWriter) -> None:
        self._writers.pop(writer.volume.id, None)

    async def _remove_aborted(self, writer: CinderWriter) -> None:
        try:
            volume = await self._volumes.get(writer.volume.id)
        except BlobNotFoundError:
            return
        await self._detach_and_delete(volume, is_forced=True)

    async def _settle(self, writer: CinderWriter) -> None:
        """What is better done after a commit, and not needed: list finishes it where it fails."""
        with contextlib.suppress(TintypeError):  # a policy may forbid it; nothing ever writes to committed volumes
            await self._volumes.act(writer.volume.id, "os-update_readonly_flag", readonly=True)
        if writer.volume.generation > 1:
            for volume in superseded(await self._volumes.of_key(writer.key)):
                await self._delete_quietly(volume)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, key: str, offset: int, length: int | None) -> AsyncIterator[bytes]:
        volume = await self._current(key)
        end = volume.size if length is None else min(volume.size, offset + length)
        if offset < end:
            async for piece in self._readers.pieces(volume.id, offset, end):
                yield piece

    async def _current(self, key: str) -> Volume:
        volume = current(await self._volumes.of_key(key))
        if volume is None:
            raise BlobNotFoundError(f"store {self._name!r} has no such bytes")
        return volume

    # --- deleting -----------------------------------------------------------------------------------------------------

    async def _delete(self, volume: Volume) -> None:
        """Make it invisible, and remove it."""
        if writer := self._writers.get(volume.id):
            await writer.sweep()
        try:
            if volume.state is not BlobState.DELETING:
                await self._volumes.set_metadata(volume.id, {f"{PREFIX}state": BlobState.DELETING.value})
            if self._readers.has(volume.id):
                self._doomed.add(volume.id)
                return
            await self._detach_and_delete(volume, is_forced=volume.state is BlobState.WRITING)
        except BlobNotFoundError:
            return

    async def _detach_and_delete(self, volume: Volume, *, is_forced: bool) -> None:
        """``is_forced``: whoever has it attached is a writer whose bytes are not wanted any more."""
        left = await self._attachments.remove_orphans(volume.id)
        if left and not is_forced:
            raise StoreBusyError(f"store {self._name!r}: another host reads the bytes that are to be deleted")
        for attachment in left:
            await self._volumes.delete_attachment(attachment)
        await self._volumes.delete(volume.id)

    async def _delete_quietly(self, volume: Volume) -> None:
        try:
            await self._delete(volume)
        except TintypeError:
            return  # it is in the lists, and removed from there

    async def _left(self, volume_id: str) -> None:
        if volume_id in self._doomed:
            self._doomed.discard(volume_id)
            try:
                await self._detach_and_delete(await self._volumes.get(volume_id), is_forced=False)
            except TintypeError:
                return  # it is in the lists, and removed from there

    async def _probe(self) -> None:
        """Make, attach, read and delete a volume of 1 GiB, as a write does that is given up."""
        held = self._leases.new(is_writer=True)
        key = BlobKey.parse("00000000-0000-0000-0000-000000000000/00000000-0000-0000-0000-000000000000/probe")
        writer = await self._begin(key, await self._volumes.of_key(str(key)), held, is_replacement=False)
        try:
            await writer.append(b"probe")
        finally:
            await writer.abort()


def _require_no_writer(volumes: Sequence[Volume], *, but: str = "") -> None:
    now = time.time()
    for volume in volumes:
        if volume.state is BlobState.WRITING and volume.has_live_writer(now, but=but):
            raise UploadBusyError("another writer is at those bytes")


def _stored(volume: Volume) -> StoredBlob:
    is_leased = volume.state is BlobState.WRITING and volume.has_live_writer(time.time())
    return StoredBlob(volume.key, volume.size, volume.state is BlobState.COMMITTED, volume.modified_at, is_leased)
