"""The loop of the Ceph process: requests come over a socket, threads answer them, the end of the socket ends it all."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import rbd

from tintype.adapters.rbd.child import frames
from tintype.adapters.rbd.child.cluster import Cluster
from tintype.adapters.rbd.child.examining import examined
from tintype.adapters.rbd.child.failures import DAMAGED, NOT_FOUND, FailureError, translated
from tintype.adapters.rbd.child.pool import REPLACING, Pool, durable_offset, is_committed
from tintype.adapters.rbd.child.writing import Writer, open_writer

_GRACE_S = 10.0
_ZEROS = bytes(1024 * 1024)

Answer = tuple[dict[str, Any], bytes]


class Reader:
    """An open image, and how much of it there is to read."""

    def __init__(self, image: Any, size: int) -> None:
        self.image = image
        self.size = size


class Service:
    """What can be asked. Each session, a writer or a reader, is used by one request at a time: its owner waits."""

    def __init__(self) -> None:
        self._pool: Pool
        self._options: dict[str, Any] = {}
        self._writers: dict[int, Writer] = {}
        self._readers: dict[int, Reader] = {}
        self._numbers = itertools.count(1)

    def answer(self, request: dict[str, Any], payload: bytes | bytearray) -> Answer:
        """Do what is asked."""
        try:
            found = getattr(self, f"do_{request['do']}")(request, payload)
            return found if isinstance(found, tuple) else (found or {}, b"")
        except Exception as exc:  # whatever it is, the service waits for an answer
            failure = translated(exc)
            if hasattr(self, "_pool"):
                failure = self._pool.cluster.why(failure)
            return {"failure": failure.kind, "said": failure.said[:200]}, b""

    def do_connect(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        self._options = request["options"]
        cluster = Cluster(self._options)
        self._pool = Pool(cluster)
        return {"fsid": cluster.fsid}

    def do_open_write(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        writer = open_writer(
            self._pool, request["name"], resume=request["resume"], replace=request["replace"], options=self._options
        )
        number = next(self._numbers)
        self._writers[number] = writer
        return {"session": number, "offset": writer.offset}

    def do_append(self, request: dict[str, Any], payload: bytes | bytearray) -> None:
        self._writers[request["session"]].append(payload)

    def do_commit(self, request: dict[str, Any], payload: bytes) -> None:
        self._writers[request["session"]].commit(request["size"])
        del self._writers[request["session"]]

    def do_abort(self, request: dict[str, Any], payload: bytes) -> None:
        writer = self._writers.pop(request["session"], None)
        if writer is not None:
            writer.abort()

    def do_close_write(self, request: dict[str, Any], payload: bytes) -> None:
        writer = self._writers.pop(request["session"], None)
        if writer is not None:
            writer.close()

    def do_open_read(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        number = next(self._numbers)
        if request["committed"]:
            image = self._pool.open_snapshot(request["name"])
            reader = Reader(image, int(image.size()))
        else:
            image = self._uncommitted(request["name"])
            reader = Reader(image, durable_offset(image))
        self._readers[number] = reader
        return {"session": number, "size": reader.size}

    def _uncommitted(self, name: str) -> Any:
        for candidate in (name, name + REPLACING):
            with contextlib.suppress(rbd.ImageNotFound):
                image = rbd.Image(self._pool.io, candidate, read_only=True)
                if not is_committed(image):
                    return image
                image.close()
        raise FailureError(NOT_FOUND)

    def do_read(self, request: dict[str, Any], payload: bytes) -> Answer:
        reader = self._readers[request["session"]]
        count = min(request["count"], max(0, reader.size - request["offset"]))
        if count == 0:
            return {}, b""
        try:
            data = reader.image.read(request["offset"], count)
        except rbd.Error as exc:
            if abs(getattr(exc, "errno", None) or 0) == errno.EIO:
                raise FailureError(DAMAGED, "EIO") from exc
            raise
        whole, rest = divmod(count, len(_ZEROS))
        is_hole = all(data[at : at + len(_ZEROS)] == _ZEROS for at in range(0, whole * len(_ZEROS), len(_ZEROS)))
        if is_hole and data[count - rest :] == _ZEROS[:rest]:
            return {"zeros": count}, b""
        return {}, data

    def do_close_read(self, request: dict[str, Any], payload: bytes) -> None:
        reader = self._readers.pop(request["session"], None)
        if reader is not None:
            reader.image.close()

    def do_stat(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        return {"found": [self._pool.stat_key(name) for name in request["names"]]}

    def do_names(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        return {"names": [name for name in self._pool.names() if name.startswith(request["begin"])]}

    def do_delete(self, request: dict[str, Any], payload: bytes) -> None:
        self._pool.delete(request["name"])

    def do_purge(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        return {"waiting": self._pool.purge_all()}

    def do_check(self, request: dict[str, Any], payload: bytes) -> None:
        self._pool.cluster.probe(request["name"])

    def do_space(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        return {"room": self._pool.cluster.room()}

    def do_examine(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        return examined(self._pool, request["name"])

    def end(self) -> None:
        """Keep what was written: the next process goes on with it at once, and not when Ceph has missed this one."""
        for writer in list(self._writers.values()):
            with contextlib.suppress(Exception):
                writer.close()
        for reader in list(self._readers.values()):
            with contextlib.suppress(Exception):
                reader.image.close()


def serve(connection: socket.socket) -> None:
    """Answer until the other side is gone."""
    service = Service()
    sending = threading.Lock()

    def work(request: dict[str, Any], payload: bytes | bytearray) -> None:
        answer, data = service.answer(request, payload)
        with sending, contextlib.suppress(OSError):
            frames.send(connection, {"id": request["id"], **answer}, data)

    pool = ThreadPoolExecutor(32, thread_name_prefix="ceph")
    while True:
        received = frames.receive(connection)
        if received is None:
            break
        pool.submit(work, *received)
    threading.Timer(_GRACE_S, os._exit, (1,)).start()  # a call that hangs must not keep the process
    service.end()
    os._exit(0)


def main() -> None:
    """Serve the socket whose descriptor is the first argument."""
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except (OSError, frames.FrameError):
        os._exit(1)
