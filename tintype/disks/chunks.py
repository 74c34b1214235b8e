"""Walking over a disk chunk by chunk in several threads, results in order; zeros are known and not read.

What is done with a chunk's bytes, besides hashing them, is the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tintype.disks.disk import Disk
from tintype.disks.merkle import CHUNK_SIZE, ZERO_CHUNK, MerkleTree, new_leaf

_RUN_CHUNKS = 8
"""Chunks that one thread takes at once: enough to make the handing over cheap, few enough to share the end fairly."""

_RUNS_AHEAD = 3
"""Runs for each thread that may be under way or done before the first of them is taken."""

_KEPT_BYTES = 8 * 1024 * 1024
"""More than a thread allocates for a chunk: what is read, what is decompressed from it, and these joined."""

Leaves = list[bytes | None]
"""The leaf of each chunk of a run; ``None`` for zeros."""


@dataclass(frozen=True, slots=True)
class ChunkRun:
    """Some chunks in a row, in bytes; the disk's last one may be short. Data is at most 8 chunks, zeros are any."""

    offset: int
    length: int
    is_zero: bool

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.length

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return -(-self.length // CHUNK_SIZE)


def hash_disk(
    disk: Disk,
    *,
    threads: int,
    on_chunk: Callable[[int, bytes], None] | None = None,
    after_run: Callable[[ChunkRun], None] | None = None,
) -> MerkleTree:
    """The tree over a disk's chunks.

    ``on_chunk`` gets the offset and the bytes of each chunk that is not all zeros, in the thread that read it and in
    any order; ``after_run`` gets each run, in order, in the caller's thread. What they raise ends the work.
    """
    _keep_freed_memory()
    tree = MerkleTree()
    pending: deque[tuple[ChunkRun, Future[Leaves] | None]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="disk") as pool:

        def take_first() -> None:
            run, future = pending.popleft()
            _append(tree, run, future.result() if future else [])
            if after_run is not None:
                after_run(run)

        try:
            for run in chunk_runs(disk):
                pending.append((run, None if run.is_zero else pool.submit(_hash_run, disk, run, on_chunk)))
                if len(pending) > threads * _RUNS_AHEAD:
                    take_first()
            while pending:
                take_first()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return tree


def _keep_freed_memory() -> None:
    """Make glibc keep what is freed between chunks, where else it would give it back and fault it in again.

    Its threshold follows the largest block that was freed (mallopt(3), M_MMAP_THRESHOLD). No page of the block is
    touched, so this costs nothing; measured, it saves a fifth of the processor's time where zstd is decompressed.
    """
    bytes(_KEPT_BYTES)


def chunk_runs(disk: Disk) -> Iterator[ChunkRun]:
    """The whole disk in order, without gaps."""
    position = 0
    for first, end in _data_chunks(disk):
        offset, limit = first * CHUNK_SIZE, min(end * CHUNK_SIZE, disk.size)
        if offset > position:
            yield ChunkRun(position, offset - position, is_zero=True)
        yield ChunkRun(offset, limit - offset, is_zero=False)
        position = limit
    if position < disk.size:
        yield ChunkRun(position, disk.size - position, is_zero=True)


def _data_chunks(disk: Disk) -> Iterator[tuple[int, int]]:
    """Ranges of chunks, in order, that have data; extents that share a chunk or touch become one range."""
    first = end = 0
    for extent in disk.extents():
        if extent.is_zero or not extent.length:
            continue
        begins, ends = extent.offset // CHUNK_SIZE, -(-extent.end // CHUNK_SIZE)
        if begins > end:
            if end > first:
                yield first, end
            first = begins
        end = max(end, ends)
        while end - first >= _RUN_CHUNKS:
            yield first, first + _RUN_CHUNKS
            first += _RUN_CHUNKS
    if end > first:
        yield first, end


def _hash_run(disk: Disk, run: ChunkRun, on_chunk: Callable[[int, bytes], None] | None) -> Leaves:
    leaves: Leaves = []
    for offset in range(run.offset, run.end, CHUNK_SIZE):
        data = disk.read(offset, min(CHUNK_SIZE, run.end - offset))
        if ZERO_CHUNK.startswith(data):  # compares as memcmp does
            leaves.append(None)
            continue
        leaf = new_leaf()
        leaf.update(data)
        leaf.update(memoryview(ZERO_CHUNK)[len(data) :])
        leaves.append(leaf.digest())
        if on_chunk is not None:
            on_chunk(offset, data)
    return leaves


def _append(tree: MerkleTree, run: ChunkRun, leaves: Leaves) -> None:
    if run.is_zero:
        tree.append_zeros(run.chunks)
    for leaf in leaves:
        if leaf is None:
            tree.append_zeros(1)
        else:
            tree.append(leaf)
