"""Names in the pool: what is committed, what is being written, what is deleted and waits for its readers and clones.

- ``NAME`` is a key's image: committed once it has the protected snapshot ``snap``.
- ``NAME.replacing`` is what takes its place at a commit. A commit that was killed between its two renames is finished
  by whoever comes next.
- ``tintype-deleted.HEX`` was deleted under a living writer; all else that is deleted goes to the pool's trash.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import rados
import rbd

from tintype.adapters.rbd.child.cluster import Cluster
from tintype.adapters.rbd.child.failures import FULL, NOT_FOUND, CephError, FailureError

SNAPSHOT = "snap"
OFFSET = "tintype.offset"
"""Metadata of an image that is being written: so many bytes are durable."""

REPLACING = ".replacing"
DELETED = "tintype-deleted."
_TRASH = "rbd_trash"
"""The object in which Ceph lists its trash."""


class Pool:
    """The images of one pool."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.io = cluster.io
        self.rbd = rbd.RBD()
        self._has_trash = False

    def prepare_trash(self) -> None:
        """Make the trash while there is room: Ceph makes it for the first deletion, which a full cluster refuses."""
        if not self._has_trash:
            with rados.WriteOpCtx() as making:
                making.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
                self.io.operate_write_op(making, _TRASH)
            self._has_trash = True

    def names(self) -> list[str]:
        """All there is, whoever made it."""
        return [str(name) for name in self.rbd.list(self.io)]

    @contextlib.contextmanager
    def opened(self, name: str | None = None, *, image_id: str | None = None, read_only: bool = False) -> Iterator[Any]:
        """An image, by name or id, until the end of the block."""
        image = rbd.Image(self.io, name, image_id=image_id, read_only=read_only)
        try:
            yield image
        finally:
            image.close()

    def id_of(self, name: str) -> str | None:
        """The id of the image of that name now."""
        try:
            with self.opened(name, read_only=True) as image:
                return str(image.id())
        except rbd.ImageNotFound:
            return None

    def stat(self, name: str) -> dict[str, Any] | None:
        """What is under exactly that name."""
        try:
            with self.opened(name, read_only=True) as image:
                committed = is_committed(image)
                return {
                    "committed": committed,
                    "size": size_at_snapshot(image) if committed else durable_offset(image),
                    # The service starts this process with UTC as its time zone.
                    "modified": image.modify_timestamp().timestamp(),
                    # Readers of committed bytes watch them too: only a writer opens what is not committed.
                    "leased": not committed and bool(list(image.watchers_list())),
                    "id": str(image.id()),
                }
        except rbd.ImageNotFound:
            return None

    def stat_key(self, name: str) -> list[dict[str, Any]]:
        """What a key has: committed bytes, an unfinished write or replacement, or both."""
        found, replacement = self.stat(name), self.stat(name + REPLACING)
        if replacement and replacement["committed"] and not self._is_watched(name + REPLACING):
            self.finish_replacement(name)
            found, replacement = self.stat(name), self.stat(name + REPLACING)
        if replacement and found is None and replacement["committed"]:
            return [replacement]  # its writer is about to give it its name
        if replacement and replacement["committed"]:
            replacement = None
        return [each for each in (found, replacement) if each]

    def finish_replacement(self, name: str) -> None:
        """Let the committed replacement take its place."""
        with contextlib.suppress(rbd.ImageNotFound):
            old = self.id_of(name)
            if old is not None:
                self.rbd.trash_move(self.io, name, 0)
            self.rbd.rename(self.io, name + REPLACING, name)
            if old is not None:
                self.purge(old)

    def open_snapshot(self, name: str) -> Any:
        """Committed bytes, to read. The image is watched, so that it is not removed as long as it is open."""
        for candidate in (name, name + REPLACING, name):  # the last: it may have been renamed in between
            with contextlib.suppress(rbd.ImageNotFound):
                image = rbd.Image(self.io, candidate, snapshot=SNAPSHOT)
                if image.is_protected_snap(SNAPSHOT):
                    return image
                image.close()
        raise FailureError(NOT_FOUND)

    def delete(self, name: str) -> None:
        """Free the names of a key, and remove what nobody reads, clones or writes any more."""
        for candidate in (name + REPLACING, name):
            with contextlib.suppress(rbd.ImageNotFound):
                self.discard(candidate)

    def discard(self, name: str) -> None:
        """Free a name; raises ``ImageNotFound`` where there is none."""
        with self.opened(name, read_only=True) as image:
            image_id = str(image.id())
        try:
            self.rbd.trash_move(self.io, name, 0)
        except rbd.ImageBusy:  # a writer has its lock
            self.rbd.rename(self.io, name, f"{DELETED}{uuid.uuid4().hex}")
            return
        except rbd.ImageNotFound:
            if self.id_of(name) == image_id:  # there is no trash, and no room to make one
                raise FailureError(FULL) from None
            raise
        self.purge(image_id)

    def purge(self, image_id: str) -> bool:
        """Remove an image in the trash; ``False`` while it is read or cloned."""
        try:
            with self.opened(image_id=image_id) as image:
                if len(list(image.watchers_list())) > 1:  # ours is one
                    return False
                for snapshot in list(image.list_snaps()):
                    if image.is_protected_snap(snapshot["name"]):
                        image.unprotect_snap(snapshot["name"])
                    image.remove_snap(snapshot["name"])
            self.rbd.trash_remove(self.io, image_id, True)
        except (rbd.ImageBusy, rbd.ImageHasSnapshots, rbd.ReadOnlyImage):
            return False
        except rbd.ImageNotFound:  # somebody else did it
            return True
        return True

    def waiting(self, begins: str = "") -> list[str]:
        """Ids of what is in the trash, and looks like ours."""
        return [str(entry["id"]) for entry in self.rbd.trash_list(self.io) if _is_ours(str(entry["name"]))]

    def purge_all(self) -> int:
        """Remove all that was deleted and can be removed now; how many cannot."""
        for name in self.names():
            if name.startswith(DELETED):
                with contextlib.suppress(rbd.ImageBusy, rbd.ImageNotFound):
                    self.rbd.trash_move(self.io, name, 0)
        return sum(not self.purge(image_id) for image_id in self.waiting())

    def _is_watched(self, name: str) -> bool:
        try:
            with self.opened(name, read_only=True) as image:
                return bool(list(image.watchers_list()))
        except rbd.ImageNotFound:
            return False


def is_committed(image: Any) -> bool:
    """Whether it has the protected snapshot."""
    try:
        return bool(image.is_protected_snap(SNAPSHOT))
    except rbd.ImageNotFound:
        return False


def size_at_snapshot(image: Any) -> int:
    """The size that was committed."""
    return next((int(found["size"]) for found in image.list_snaps() if found["name"] == SNAPSHOT), 0)


def durable_offset(image: Any) -> int:
    """How far the writer is known to have come; never beyond the image's end, whatever the metadata say."""
    try:
        said = str(image.metadata_get(OFFSET))
    except (KeyError, *CephError):
        return 0
    return min(int(said), int(image.size())) if said.isdecimal() and len(said) < 20 else 0


def _is_ours(name: str) -> bool:
    """``UUID.UUID.NAME``: the service compares more closely; nobody else names images so."""
    if name.startswith(DELETED):
        return True
    parts = name.split(".")
    return len(parts) in (3, 4) and [len(part) for part in parts[:2]] == [36, 36]
