"""A staged write into an image: one writer by librbd's exclusive lock, several pieces in flight, holes for zeros."""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from typing import Any

import rbd

from tintype.adapters.rbd.child.failures import (
    BUSY,
    DAMAGED,
    EXISTS,
    NOT_FOUND,
    SWEPT,
    CephError,
    FailureError,
    translated,
)
from tintype.adapters.rbd.child.pool import OFFSET, REPLACING, SNAPSHOT, Pool, durable_offset, is_committed

PIECE = 4 * 1024 * 1024
BLOCK = 64 * 1024
_ZEROS = bytes(BLOCK)
_PROBE = 256
FIRST_SIZE = 64 * 1024 * 1024
MAX_STEP = 64 * 1024 * 1024 * 1024


class _Write:
    """Bytes on their way to a place in the image."""

    def __init__(self, image: Any, data: bytes, at: int) -> None:
        self._image = image
        self._data = data
        self._at = at
        self._completion: Any = None
        self.begin()

    def begin(self) -> None:
        """Send them, perhaps again."""
        with contextlib.suppress(*CephError):  # what cannot be begun is met, and begun again, by whoever waits for it
            self._completion = self._image.aio_write(self._data, self._at, _nothing)

    def wait(self) -> int:
        """Until they are written, or not: then an error's number, below 0."""
        if self._completion is None:
            return -errno.EIO
        self._completion.wait_for_complete_and_cb()
        return int(self._completion.get_return_value())


class Writer:
    """The bytes behind ``offset`` are not there, or zero: an image that is gone on with is cut off first."""

    def __init__(self, pool: Pool, name: str, image: Any, *, replaces: bool, options: dict[str, Any]) -> None:
        self._pool = pool
        self._name = name
        self._image = image
        self._id = str(image.id())
        self._replaces = replaces
        self._in_flight: deque[_Write] = deque()
        self._max_in_flight = int(options["writes_in_flight"])
        self._record_every = int(options["record_every"])
        self._parts: list[memoryview] = []
        self._buffered = 0
        self._is_taking_place = False
        self._written = self._recorded = durable_offset(image)
        self._size = int(image.size())

    @property
    def offset(self) -> int:
        """How many bytes have been appended."""
        return self._written + self._buffered

    def append(self, data: bytes | bytearray) -> None:
        """Take all bytes or, where this fails, none; whole pieces are on their way when this returns.

        What failed is of an earlier piece. It is sent again, and the next call waits for that.
        """
        self._settle(self._max_in_flight - 1)
        self._make_room(self.offset + len(data))
        if self._written - self._recorded >= self._record_every:
            self._record()
        view = memoryview(data)  # whose bytes nobody changes any more
        while view:
            part = view[: PIECE - self._buffered]
            self._parts.append(part)
            self._buffered += len(part)
            view = view[len(part) :]
            if self._buffered == PIECE:
                self._write_buffered()

    def commit(self, size: int) -> None:
        """Make the bytes visible: the instant is the protection of the snapshot, or the renaming of a replacement."""
        if self.offset != size:
            raise FailureError(DAMAGED, f"{size} bytes were to be committed, and {self.offset} are there")
        self._drain()
        self._image.resize(size)
        self._image.metadata_set(OFFSET, str(size))
        self._require_name()
        self._image.create_snap(SNAPSHOT)
        self._image.protect_snap(SNAPSHOT)
        self._require_name()
        if self._replaces:
            self._take_place()
        self._image.close()

    def close(self) -> None:
        """Keep the bytes, and say how many there are."""
        try:
            self._drain()
            self._record()
        finally:
            self._image.close()

    def abort(self) -> None:
        """Remove the image, unless somebody else did; a commit that was begun between two names is left to be finished.

        Whoever comes next does that: of the old bytes and the new ones, at least one must stay.
        """
        while self._in_flight:
            self._in_flight.popleft().wait()
        if self._is_taking_place:
            self._image.close()
            return
        with contextlib.suppress(*CephError):
            if is_committed(self._image):
                self._image.unprotect_snap(SNAPSHOT)
        self._image.close()
        if self._pool.id_of(self._name) == self._id:
            with contextlib.suppress(rbd.ImageNotFound):
                self._pool.discard(self._name)
        else:
            self._pool.purge_all()

    def _take_place(self) -> None:
        key_name = self._name[: -len(REPLACING)]
        old = self._pool.id_of(key_name)
        if old is None:
            raise FailureError(SWEPT)
        self._is_taking_place = True
        self._pool.finish_replacement(key_name)

    def _require_name(self) -> None:
        if self._pool.id_of(self._name) != self._id:
            raise FailureError(SWEPT)

    def _drain(self) -> None:
        if self._buffered:
            self._write_buffered()
        self._settle(0)
        self._image.flush()

    def _record(self) -> None:
        self._settle(0)
        self._image.flush()
        self._image.metadata_set(OFFSET, str(self._written))
        self._recorded = self._written

    def _make_room(self, end: int) -> None:
        if end > self._size:
            size = max(end, self._size + min(max(self._size, FIRST_SIZE), MAX_STEP))
            self._image.resize(size)
            self._size = size

    def _write_buffered(self) -> None:
        self._write(b"".join(self._parts))
        self._parts.clear()
        self._buffered = 0

    def _write(self, data: bytes) -> None:
        """Send what is not zero, in runs of blocks that lie at multiples of :data:`BLOCK`."""
        view = memoryview(data)
        begin = position = 0
        while position < len(data):
            stop = min(len(data), position + BLOCK - (self._written + position) % BLOCK)
            if _is_zero(view[position:stop]):
                self._send(view[begin:position], begin)
                begin = stop
            position = stop
        self._send(view[begin:], begin)
        self._written += len(data)

    def _send(self, view: memoryview, begin: int) -> None:
        if view:
            whole = view.obj  # mostly that is all of it, which is then not copied
            data = whole if isinstance(whole, bytes) and len(whole) == len(view) else bytes(view)
            self._in_flight.append(_Write(self._image, data, self._written + begin))

    def _settle(self, left: int) -> None:
        while len(self._in_flight) > left:
            result = self._in_flight[0].wait()
            if result < 0:
                self._in_flight[0].begin()
                raise translated(OSError(-result, "write"))
            self._in_flight.popleft()


def _is_zero(view: memoryview) -> bool:
    """Nearly all that is not zero shows it at once, before anything is copied."""
    if view[:_PROBE] != _ZEROS[: min(_PROBE, len(view))]:
        return False
    return bytes(view) == _ZEROS[: len(view)]  # bytes compare with memcmp, views byte by byte


def open_writer(pool: Pool, name: str, *, resume: bool, replace: bool, options: dict[str, Any]) -> Writer:
    """Begin a write, or go on with one."""
    pool.prepare_trash()
    found = pool.stat(name)
    if found is None and (pool.stat(name + REPLACING) or {}).get("committed"):
        pool.finish_replacement(name)  # its writer was killed between the two names
        found = pool.stat(name)
    is_there = bool(found and found["committed"])
    if is_there and not replace:
        raise FailureError(EXISTS)
    target = name + REPLACING if is_there else name
    image = _opened(pool, target, resume=resume, is_there=is_there, options=options)
    try:
        _lock(pool, image)
        if is_committed(image):  # by a writer that was faster, or one that was killed before its renaming
            if not target.endswith(REPLACING):
                raise FailureError(EXISTS)
            image.unprotect_snap(SNAPSHOT)
        if any(snapshot["name"] == SNAPSHOT for snapshot in image.list_snaps()):
            image.remove_snap(SNAPSHOT)  # a commit was killed before its protection
        kept = durable_offset(image) if resume else 0
        image.metadata_set(OFFSET, str(kept))
        image.resize(kept)
        return Writer(pool, target, image, replaces=is_there, options=options)
    except BaseException:
        image.close()
        raise


def _opened(pool: Pool, name: str, *, resume: bool, is_there: bool, options: dict[str, Any]) -> Any:
    for _ in range(10):
        try:
            return rbd.Image(pool.io, name)
        except rbd.ImageNotFound:
            if resume:
                raise FailureError(EXISTS if is_there else NOT_FOUND) from None
        with contextlib.suppress(rbd.ImageExists):
            order = int(options["object_size"]).bit_length() - 1
            pool.rbd.create(pool.io, name, 0, order=order, old_format=False, features=_features(options))
    raise FailureError(BUSY)


def _features(options: dict[str, Any]) -> int:
    features = rbd.RBD_FEATURE_LAYERING | rbd.RBD_FEATURE_EXCLUSIVE_LOCK | rbd.RBD_FEATURE_DEEP_FLATTEN
    if options["object_map"]:
        features |= rbd.RBD_FEATURE_OBJECT_MAP | rbd.RBD_FEATURE_FAST_DIFF
    return int(features)


def _lock(pool: Pool, image: Any) -> None:
    """Take the exclusive lock, also from a client that is gone, which Ceph then never lets write again."""
    mine = int(pool.cluster.rados.get_instance_id())
    watchers = list(image.watchers_list())
    for owner in image.lock_get_owners():
        alive = [watcher for watcher in watchers if watcher["addr"] == owner["owner"]]
        if len(alive) > (1 if any(watcher["id"] == mine for watcher in alive) else 0):
            raise FailureError(BUSY)
    try:
        image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
    except (rbd.ReadOnlyImage, rbd.ImageBusy):
        raise FailureError(BUSY) from None


def _nothing(completion: Any) -> None:
    """Outcomes are looked at in order, by whoever writes."""
