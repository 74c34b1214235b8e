"""Inspecting an image inside of a compressed file that is kept as it is: decompressed in passing, and thrown away."""

from __future__ import annotations

from dataclasses import replace

from tintype.domain.errors import FormatMismatchError, RefusedContentError
from tintype.domain.values import Fact
from tintype.inspect.compression.decompressor import SNIFF_SIZE, Decompressor
from tintype.inspect.compression.kinds import DECOMPRESSIBLE, compression_of
from tintype.inspect.inspection import Inspection
from tintype.inspect.inspector import Inspector

COMPRESSION = "compression"
"""Key of the fact by what an image's bytes are, or were, compressed."""

COMPRESSION_SOURCE = "the first bytes as they came"


class CompressedInspector:
    """Inspects one image through its compression; the image inside has to be what ``inspector`` takes. Not reusable."""

    def __init__(self, inspector: Inspector, *, max_size: int) -> None:
        """``max_size`` bytes may come out."""
        self._inspector = inspector
        self._max_size = max_size
        self._head = b""
        self._decompressor: Decompressor | None = None
        self._kind = ""
        self._refusal: RefusedContentError | None = None

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            RefusedContentError: as soon as the bytes seen so far are reason enough.
        """
        if self._refusal:
            raise self._refusal
        try:
            self._feed(chunk)
        except RefusedContentError as refusal:
            self._refusal = refusal
            raise

    def finish(self) -> Inspection:
        """The verdict on the image inside, after the last byte.

        Raises:
            FormatMismatchError: the bytes are not compressed.
            RefusedContentError: a subclass that says what is wrong with them, or with the image inside.
        """
        if self._refusal:
            raise self._refusal
        decompressor = self._decompressor
        if decompressor is None:  # fewer bytes came than a beginning needs
            decompressor = self._begun()
            self._pass_on(decompressor, self._head)
        decompressor.finish()
        found = self._inspector.finish()
        return replace(found, facts={**found.facts, COMPRESSION: Fact(self._kind, COMPRESSION_SOURCE)})

    def _feed(self, chunk: bytes | memoryview) -> None:
        if self._decompressor is not None:
            self._pass_on(self._decompressor, chunk)
            return
        self._head += bytes(chunk)
        if len(self._head) >= SNIFF_SIZE:
            self._decompressor = self._begun()
            self._pass_on(self._decompressor, self._head)
            self._head = b""

    def _begun(self) -> Decompressor:
        kind = compression_of(self._head)
        if kind not in DECOMPRESSIBLE:
            found = kind or "not compressed"
            raise FormatMismatchError(f"the image was declared as compressed, but its bytes are {found}")
        self._kind = kind
        return Decompressor(kind, max_size=self._max_size)

    def _pass_on(self, decompressor: Decompressor, data: bytes | memoryview) -> None:
        for piece in decompressor.feed(data):
            self._inspector.feed(piece)
