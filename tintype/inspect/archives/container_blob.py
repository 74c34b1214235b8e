"""One file of a container archive as it passes: its digest, and the layer in it if its first bytes are one's.

Which files are layers may be told only at the archive's end, when they have passed: so every file is looked at.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tintype.inspect.archives.container_layer import LayerBudget, LayerWalk
from tintype.inspect.archives.layer_decompression import (
    Compression,
    Decompression,
    Growth,
    decompression,
    layer_compression_of,
)
from tintype.inspect.archives.tar import BLOCK_SIZE, is_tar


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """A layer: how it is compressed, and the digest and the size in bytes of its uncompressed tar."""

    compression: Compression
    diff_id: str
    size: int


class BlobWalk:
    """Takes a file piece by piece."""

    def __init__(self, budget: LayerBudget, growth: Growth) -> None:
        self._growth = growth
        self._head = b""
        self._has_begun = False
        self._digest = hashlib.sha256()
        self._tar_digest = hashlib.sha256()
        self._compression = Compression.NONE
        self._decompression: Decompression | None = None
        self._layer = LayerWalk(budget)

    @property
    def digest(self) -> str:
        """The SHA-256 of the file in hexadecimal."""
        return self._digest.hexdigest()

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes.

        Raises:
            RefusedContentError: the layer in it must not be unpacked, or cannot be read.
        """
        self._digest.update(piece)
        if not self._has_begun:
            missing = BLOCK_SIZE - len(self._head)
            self._head += piece[:missing]
            piece = piece[missing:]
            if len(self._head) < BLOCK_SIZE:
                return
            self._begin()
        if self._decompression is not None:
            self._decompression.feed(piece)

    def finish(self) -> LayerFacts | None:
        """What was in it, if it was a layer.

        Raises:
            RefusedContentError: the layer ends too early.
        """
        if not self._has_begun:
            self._begin()
        if self._decompression is None:
            return None
        self._decompression.finish()
        self._layer.finish()
        is_plain = self._compression is Compression.NONE
        digest = self._digest if is_plain else self._tar_digest
        return LayerFacts(self._compression, f"sha256:{digest.hexdigest()}", self._decompression.produced)

    def _begin(self) -> None:
        self._has_begun = True
        self._compression = layer_compression_of(self._head)
        # A layer that changes nothing is an end mark only.
        is_plain = is_tar(self._head) or self._head == bytes(BLOCK_SIZE)
        if self._compression is not Compression.NONE or is_plain:
            self._decompression = decompression(self._compression, self._take_tar, self._growth)
            self._decompression.feed(memoryview(self._head))

    def _take_tar(self, piece: memoryview) -> None:
        if self._compression is not Compression.NONE:
            self._tar_digest.update(piece)
        self._layer.feed(piece)
