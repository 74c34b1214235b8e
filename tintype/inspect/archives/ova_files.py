"""The files of an OVA as they pass: their digests, and the disk's own inspection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tintype.domain.errors import ArchiveContentError
from tintype.domain.values import Digest, DiskFormat
from tintype.inspect.archives.tar import BLOCK_SIZE, is_tar
from tintype.inspect.inspection import Inspection
from tintype.inspect.inspector import Inspector

EARLY_ALGORITHMS = ("sha1", "sha256")
"""What is taken of a file while its manifest has yet to come."""
SMALL_FILE_ALGORITHMS = (*EARLY_ALGORITHMS, "sha512")

Sink = Callable[[memoryview], None]


def digests_of(data: bytes) -> dict[str, str]:
    """All digests of a small file, by algorithm."""
    return {name: hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in SMALL_FILE_ALGORITHMS}


class DigestWalk:
    """Takes the digests of a file that passes, and hands it on to ``sink``."""

    def __init__(self, listed: Digest | None, *, has_manifest: bool, sink: Sink | None = None) -> None:
        """``listed`` is what the manifest has of the file, if the manifest is there already."""
        wanted = ((listed.algorithm,) if listed else ()) if has_manifest else EARLY_ALGORITHMS
        self._digests = {name: hashlib.new(name, usedforsecurity=False) for name in wanted}
        self._sink = sink

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes."""
        for digest in self._digests.values():
            digest.update(piece)
        if self._sink is not None:
            self._sink(piece)

    @property
    def digests(self) -> dict[str, str]:
        """Hexadecimal, by algorithm."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


class DiskWalk:
    """Inspects the disk in an archive as an image of its own."""

    def __init__(self, declared: DiskFormat | None, *, max_virtual_size: int | None) -> None:
        self._inspector = Inspector(declared, max_virtual_size=max_virtual_size)
        self._head = b""
        self._is_checked = False

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes.

        Raises:
            RefusedContentError: the disk is refused.
        """
        if not self._is_checked:
            missing = BLOCK_SIZE - len(self._head)
            self._head += piece[:missing]
            piece = piece[missing:]
            if len(self._head) < BLOCK_SIZE:
                return
            self._begin()
        self._inspector.feed(piece)

    def finish(self) -> Inspection:
        """The verdict on the disk.

        Raises:
            ArchiveContentError: it is no disk.
            RefusedContentError: it is refused.
        """
        if not self._is_checked:
            self._begin()
        inspection = self._inspector.finish()
        if inspection.virtual_size is None:
            raise ArchiveContentError(f"the OVA's disk is of format {inspection.disk_format}, which holds no disk")
        return inspection

    def _begin(self) -> None:
        """An archive in an archive would be inspected by the same code, as deep as its maker likes."""
        self._is_checked = True
        if is_tar(self._head):
            raise ArchiveContentError("the OVA's disk is an archive")
        self._inspector.feed(self._head)
