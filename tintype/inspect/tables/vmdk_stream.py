"""A streamOptimized VMDK that was written in one go: grains and tables behind markers, the directory at the end.

What a program will read is found by the directory that the footer names. It is known only when all else has passed, so
the markers are followed on the way, and the directory must be one that was met.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator

from tintype.domain.errors import DecompressionBombError, MalformedImageError
from tintype.inspect.stream import MAX_REGION_SIZE, Passage, Stream, Wish
from tintype.inspect.tables.vmdk import directory_entries, stored_grains
from tintype.inspect.tables.vmdk_header import FOOTER_MARKER, GRAIN_MARKER, MARKER, SECTOR_SIZE, VmdkHeader

_END, _GRAIN_TABLE, _GRAIN_DIRECTORY, _PROGRESS = 0, 1, 2, 4
_MAX_EMPTY_SECTORS = 4096
"""Sectors of zeros that may stand where a marker is due: an end marker, and padding."""
_WHOLE_STREAM = 1 << 62


class MarkerWalk:
    """Follows the markers of a stream, piece by piece; what it keeps are the places of the tables only."""

    __slots__ = (
        "_at", "_captured", "_directories", "_empty_sectors", "_grains", "_header", "_length", "_named", "_position",
        "_reading", "_tables",
    )  # fmt: skip

    def __init__(self, header: VmdkHeader) -> None:
        self._header = header
        self._position = self._at = header.overhead * SECTOR_SIZE
        self._length = MARKER.size
        self._reading = _END  # what is captured: a marker, or the table behind one
        self._captured = bytearray()
        self._grains = self._named = self._empty_sectors = 0
        self._tables = array("Q")
        self._directories: dict[int, bytes] = {}

    def run(self, stream: Stream) -> Generator[Wish, bytes, None]:
        """Follow all that comes up to the end of the stream.

        Raises:
            MalformedImageError: a marker is due where there is none, or one that cannot be.
            DecompressionBombError: tables name more grains than there are.
        """
        if stream.has_passed(self._position, _WHOLE_STREAM):
            raise MalformedImageError("the VMDK's descriptor lies behind its first grain")
        yield Passage(self._position, _WHOLE_STREAM, self.take)

    def take(self, piece: memoryview) -> None:
        """The next bytes; most of them are skipped."""
        start = self._position
        self._position += len(piece)
        while True:
            begin = self._at + len(self._captured) - start
            if begin >= len(piece):
                return
            self._captured += piece[begin : begin + self._length - len(self._captured)]
            if len(self._captured) < self._length:
                return
            data = bytes(self._captured)
            self._captured.clear()
            if self._reading == _END:
                self._follow(data)
            else:
                self._read_table(data)

    def check_directory(self, footer: VmdkHeader) -> None:
        """Check that the directory which counts was met on the way, and so were all tables in it.

        Raises:
            MalformedImageError: it, or one of its tables, has no marker.
            DecompressionBombError: it names a table twice.
        """
        directory = self._directories.get(footer.directory_offset)
        if directory is None:
            raise MalformedImageError("the VMDK's footer names a grain directory that has no marker")
        if not set(directory_entries(directory)) <= set(self._tables):
            raise MalformedImageError("the VMDK's grain directory names a table that has no marker")

    def _follow(self, data: bytes) -> None:
        value, size, kind = MARKER.unpack(data)
        if size:
            # Deflate makes nothing twice as large.
            if value >= self._header.capacity or size > 2 * self._header.grain_bytes:
                raise MalformedImageError(f"a VMDK grain of {size} bytes lies at sector {value} of the disk")
            self._grains += 1
            self._go(GRAIN_MARKER.size + size)
        elif kind == _GRAIN_TABLE:
            self._expect(kind, value, self._header.table_bytes)
        elif kind == _GRAIN_DIRECTORY:
            self._expect(kind, value, self._header.directory_bytes)
        elif kind == FOOTER_MARKER and value == 1:
            self._go(2 * SECTOR_SIZE)
        elif kind == _PROGRESS or (kind == _END and not value):
            self._empty_sectors += 1
            if self._empty_sectors > _MAX_EMPTY_SECTORS:
                raise MalformedImageError("the VMDK has no markers where grains are due")
            self._go(SECTOR_SIZE)
        else:
            raise MalformedImageError(f"the VMDK has a marker of unknown type {kind}")

    def _go(self, length: int) -> None:
        """Look for the next marker behind ``length`` bytes, at a sector's begin."""
        self._at += -(-length // SECTOR_SIZE) * SECTOR_SIZE
        self._length, self._reading = MARKER.size, _END

    def _expect(self, kind: int, sectors: int, length: int) -> None:
        if sectors != -(-length // SECTOR_SIZE):
            raise MalformedImageError(f"a VMDK marker announces {sectors} sectors of a table that has {length} bytes")
        self._at += SECTOR_SIZE
        self._length, self._reading = min(length, MAX_REGION_SIZE), kind

    def _read_table(self, data: bytes) -> None:
        sector = self._at // SECTOR_SIZE
        if self._reading == _GRAIN_DIRECTORY:
            self._directories = {sector: data}
            self._go(self._header.directory_bytes)
            return
        grains = stored_grains(data)
        self._named += len(grains)
        # A table follows the grains that it names.
        if self._named > self._grains or len(set(grains)) < len(grains):
            raise DecompressionBombError(f"the VMDK's tables name {self._named} grains, and it has {self._grains}")
        self._tables.append(sector)
        self._go(self._header.table_bytes)
