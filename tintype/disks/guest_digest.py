"""The guest-disk digest, version 1: the same for the same disk, whatever the format that holds it.

``docs/guest-disk-digest.md`` defines it. Here are its two computations: of bytes that pass in order, whose number need
not be known (:class:`GuestDigester`), and of a disk that is open (:func:`digest_of`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tintype.disks.chunks import ChunkRun, hash_disk
from tintype.disks.disk import SECTOR_SIZE, Disk
from tintype.disks.merkle import CHUNK_SIZE, ZERO_CHUNK, MerkleTree, leaf_hash, new_leaf
from tintype.domain.values import GuestDigest

_NAME = "guest-disk-v1"
_ROOT = b"\x02" + _NAME.encode()


class GuestDigester:
    """The digest of a raw disk whose bytes pass in order. It is fed by one thread at a time, and keeps no bytes."""

    def __init__(self) -> None:
        self._size = 0
        self._tree = MerkleTree()
        self._begun = 0  # bytes of the chunk that is not whole yet
        self._leaf: hashlib._Hash | None = None  # of that chunk; None while it is nothing but zeros

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Large pieces are best: a whole chunk is hashed without a copy."""
        view = memoryview(data).cast("B")
        self._size += len(view)
        while view:
            piece, view = view[: CHUNK_SIZE - self._begun], view[CHUNK_SIZE - self._begun :]
            is_zero = ZERO_CHUNK.startswith(piece)  # compares as memcmp does
            if len(piece) < CHUNK_SIZE:
                self._begin(piece, is_zero)
            elif is_zero:
                self._tree.append_zeros(1)
            else:
                self._tree.append(leaf_hash(piece))

    def skip_zeros(self, length: int) -> None:
        """Take ``length`` zeros, which costs next to nothing.

        Raises:
            ValueError: ``length`` is negative.
        """
        if length < 0:
            raise ValueError(length)
        self._size += length
        if self._begun:
            piece = min(length, CHUNK_SIZE - self._begun)
            length -= piece
            self._begin(memoryview(ZERO_CHUNK)[:piece], True)
        self._tree.append_zeros(length // CHUNK_SIZE)
        if rest := length % CHUNK_SIZE:
            self._begin(memoryview(ZERO_CHUNK)[:rest], True)

    def digest(self) -> GuestDigest:
        """The digest of what has come. Nothing may be fed afterwards."""
        size = self._size
        if self._begun:
            self.skip_zeros(CHUNK_SIZE - self._begun)
        return seal(self._tree, size)

    def _begin(self, piece: memoryview, is_zero: bool) -> None:
        """Add to a chunk that is not whole yet; it is hashed from its first byte that is not zero."""
        if self._leaf is None and not is_zero:
            self._leaf = new_leaf()
            self._leaf.update(memoryview(ZERO_CHUNK)[: self._begun])
        if self._leaf is not None:
            self._leaf.update(piece)
        self._begun += len(piece)
        if self._begun == CHUNK_SIZE:
            if self._leaf is None:
                self._tree.append_zeros(1)
            else:
                self._tree.append(self._leaf.digest())
            self._begun, self._leaf = 0, None


def digest_of(disk: Disk, *, threads: int = 2, on_progress: Callable[[float], None] | None = None) -> GuestDigest:
    """Read the disk's data, not its zeros, and hash it in ``threads``.

    ``on_progress`` gets fractions, rising to 1, in the caller's thread; what it raises ends the work.

    Raises:
        RefusedContentError: the disk cannot be read.
        StoreUnavailableError: its file cannot be read.
    """
    size = disk.size

    def after_run(run: ChunkRun) -> None:
        if on_progress is not None:
            on_progress(run.end / size)

    return seal(hash_disk(disk, threads=threads, after_run=after_run), size)


def seal(tree: MerkleTree, size: int) -> GuestDigest:
    """Bind the disk's size, in bytes, to the tree over its chunks."""
    sectors = -(-size // SECTOR_SIZE)
    root = hashlib.sha256(_ROOT + (sectors * SECTOR_SIZE).to_bytes(8, "big") + tree.root())
    return GuestDigest(f"{_NAME}:{root.hexdigest()}")
