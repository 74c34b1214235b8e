"""The hash tree of the guest-disk digest (docs/guest-disk-digest.md), built from left to right in little memory."""

from __future__ import annotations

import hashlib
from functools import cache

CHUNK_SIZE = 1024 * 1024
"""Bytes of the disk that make one leaf."""

ZERO_CHUNK = bytes(CHUNK_SIZE)

_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(chunk: bytes | memoryview) -> bytes:
    """The leaf of one whole chunk."""
    leaf = new_leaf()
    leaf.update(chunk)
    return leaf.digest()


def new_leaf() -> hashlib._Hash:
    """A leaf whose chunk is still to be fed."""
    return hashlib.sha256(_LEAF, usedforsecurity=True)


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two trees."""
    return hashlib.sha256(_NODE + left + right).digest()


@cache
def zero_tree(level: int) -> bytes:
    """The tree above 2^level chunks of zeros."""
    return node_hash(zero_tree(level - 1), zero_tree(level - 1)) if level else leaf_hash(ZERO_CHUNK)


class MerkleTree:
    """The tree of RFC 6962, section 2.1, over the leaves so far: one hash for each set bit of their count is kept."""

    def __init__(self) -> None:
        self._count = 0
        self._perfect: list[bytes] = []  # the left-most, and largest, first

    def append(self, leaf: bytes) -> None:
        """Add one leaf."""
        self._append_perfect(0, leaf)

    def append_zeros(self, count: int) -> None:
        """Add the leaves of ``count`` chunks of zeros, in time that grows with the logarithm of ``count``."""
        while count:
            level = count.bit_length() - 1
            if self._count:
                # A perfect tree begins at a multiple of its own width.
                level = min(level, (self._count & -self._count).bit_length() - 1)
            self._append_perfect(level, zero_tree(level))
            count -= 1 << level

    def _append_perfect(self, level: int, tree: bytes) -> None:
        width = 1 << level
        self._count += width
        while not self._count & width:
            tree = node_hash(self._perfect.pop(), tree)
            width <<= 1
        self._perfect.append(tree)

    def root(self) -> bytes:
        """The hash of the whole tree; more leaves may follow."""
        if not self._perfect:
            return hashlib.sha256().digest()
        *others, root = self._perfect
        for left in reversed(others):
            root = node_hash(left, root)
        return root
