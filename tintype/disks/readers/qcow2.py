"""QCOW2, versions 2 and 3 (QEMU, docs/interop/qcow2.txt): zlib and zstd, subclusters, zero clusters.

The tables are read as they are needed, and only the last few are kept. The header is read and judged by
:mod:`tintype.inspect.tables.qcow2_header`. Internal snapshots are not looked at: the disk is the active one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from enum import Enum, auto

from tintype.disks.byte_file import ByteFile, OnFile
from tintype.disks.decompression import decompress_zstd, inflate
from tintype.disks.disk import Disk, Extent
from tintype.disks.opening import Reader
from tintype.disks.table_cache import TableCache
from tintype.domain.errors import MalformedImageError, TruncatedError, UnsupportedImageError
from tintype.domain.values import DiskFormat
from tintype.inspect.stream import integers
from tintype.inspect.tables.qcow2_header import Qcow2Header, check_tables, read_header

_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00  # bits 9-55 of an L1 or a standard L2 entry
_COMPRESSED = 1 << 62
_READS_AS_ZEROS = 1
_SUBCLUSTERS = 32
_ALL_SUBCLUSTERS = (1 << _SUBCLUSTERS) - 1
_L1_PAGE_ENTRIES = 8192
_WORTH_ASKING = 1024 * 1024
"""Data of this length may be a hole of the file, as where metadata were preallocated; it is asked for each such run."""

# The most that a byte can become: deflate has 258 bytes in 2 bits, zstd a block of 128 KiB in 4 bytes.
_DEFLATE_MAX_RATIO = 1032
_ZSTD_MAX_RATIO = 128 * 1024 // 4


class _Kind(Enum):
    ZERO = auto()
    DATA = auto()
    COMPRESSED = auto()


_Mapping = tuple[_Kind, int, int]
"""A kind, a length in bytes, and the offset in the file (of a compressed cluster: its whole entry)."""


class Qcow2Disk(OnFile):
    """The active disk of a qcow2 image."""

    def __init__(self, file: ByteFile) -> None:
        """Read the header.

        Raises:
            RefusedContentError: this image is not to be read.
        """
        super().__init__(file)
        self._header = header = _read_header(file)
        self._cluster_size = header.cluster_size
        if header.size and header.l1_end > file.size:
            raise TruncatedError(f"the qcow2 L1 table should reach to byte {header.l1_end}")
        # Bits of a compressed entry that are its offset; above them is its length in sectors.
        self._offset_bits = 62 - (header.cluster_bits - 8)
        self._l1_pages = TableCache(self._load_l1_page, table_bytes=_L1_PAGE_ENTRIES * 8, max_bytes=1024 * 1024)
        self._l2_tables = TableCache(self._load_l2, table_bytes=self._cluster_size)
        # Reads that take only a part of a compressed cluster often take the next part soon.
        self._plain_clusters = TableCache(self._decompress_entry, table_bytes=self._cluster_size, max_bytes=8 << 20)

    @property
    def size(self) -> int:
        """As the header says."""
        return self._header.size

    def extents(self) -> Iterator[Extent]:
        """Data and zeros as the tables tell them; data ends at least where its table does.

        Raises:
            MalformedImageError: the tables name more than the file can hold.
            TruncatedError: a table lies beyond the end.
        """
        allowance = _Allowance(self._file.size, self._header)
        begin = position = 0
        is_zero = True
        for mapped_zero, length in self._mapped(allowance):
            if mapped_zero != is_zero or (not is_zero and position - begin >= self._header.bytes_per_l1_entry):
                if position > begin:
                    yield Extent(begin, position - begin, is_zero)
                begin, is_zero = position, mapped_zero
            position = min(position + length, self.size)
        if position > begin:
            yield Extent(begin, position - begin, is_zero)

    def _mapped(self, allowance: _Allowance) -> Iterator[tuple[bool, int]]:
        """Whether zeros, and how many bytes: of the whole disk in order."""
        covers = self._header.bytes_per_l1_entry
        tables = -(-self.size // covers)
        for page_number in range(-(-tables // _L1_PAGE_ENTRIES)):
            first = page_number * _L1_PAGE_ENTRIES
            page = self._l1_pages.get(page_number)
            if not any(page):
                yield True, len(page) * covers
                continue
            for index in range(first, min(first + len(page), tables)):
                if not page[index - first] & _OFFSET_MASK:
                    yield True, covers
                    continue
                allowance.take_table()
                clusters = min(self._header.l2_entries, -(-(self.size - index * covers) // self._cluster_size))
                for kind, length, where in self._mappings(index, 0, clusters):
                    allowance.take(kind, length)
                    if kind is _Kind.DATA and length >= _WORTH_ASKING:
                        yield from self._holes_in(where, length)
                    else:
                        yield kind is _Kind.ZERO, length

    def _holes_in(self, where: int, length: int) -> Iterator[tuple[bool, int]]:
        """Clusters that were allocated and never written are holes of the file."""
        told = 0
        for extent in self._file.extents(where, where + length):
            yield extent.is_zero, extent.length
            told += extent.length
        if told < length:
            yield False, length - told  # behind the end: a read refuses it, or pads the last cluster

    def read(self, offset: int, length: int) -> bytes:
        """The disk's bytes there.

        Raises:
            TruncatedError: the tables name what lies beyond the end of the file.
            MalformedImageError: an entry contradicts the format, or a cluster cannot be decompressed.
        """
        if offset < 0 or length < 0:
            raise ValueError((offset, length))
        end = min(offset + length, self.size)
        pieces: list[bytes] = []
        compressed: list[int] = []  # whole clusters, which are read at once
        for kind, skip, length, where in self._runs(offset, end):
            if kind is _Kind.COMPRESSED and length == self._cluster_size:
                compressed.append(where)
                continue
            if compressed:
                pieces += self._decompress_many(compressed)
                compressed = []
            if kind is _Kind.DATA:
                pieces.append(self._read_data(where + skip, length))
            elif kind is _Kind.ZERO:
                pieces.append(bytes(length))
            else:
                pieces.append(self._plain_clusters.get(where)[skip : skip + length])
        if compressed:
            pieces += self._decompress_many(compressed)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _runs(self, offset: int, end: int) -> Iterator[tuple[_Kind, int, int, int]]:
        """What covers the disk from ``offset`` to ``end``: kind, bytes to skip at its begin, length, place."""
        covers, cluster_size = self._header.bytes_per_l1_entry, self._cluster_size
        while offset < end:
            index, within = divmod(offset, covers)
            first, skip = divmod(within, cluster_size)
            limit = min(end, (index + 1) * covers)
            clusters = -(-(limit - index * covers) // cluster_size) - first
            for kind, length, where in self._mappings(index, first, clusters):
                if skip >= length:  # subclusters before the first wanted one
                    skip -= length
                    continue
                wanted = min(length - skip, limit - offset)
                if not wanted:
                    break
                yield kind, skip, wanted, where
                offset += wanted
                skip = 0

    def _mappings(self, index: int, first: int, clusters: int) -> Iterator[_Mapping]:
        """What some clusters of one L2 table are, neighbours merged where they are neighbours in the file too."""
        if not self._l2_offset(index):
            yield _Kind.ZERO, clusters * self._cluster_size, 0
            return
        table = self._l2_tables.get(index)
        if self._header.has_subclusters:
            pieces = self._subclusters(table[first * 2 : (first + clusters) * 2])
        else:
            pieces = self._clusters(table[first : first + clusters])
        kind, length, where = next(pieces)
        for next_kind, next_length, next_where in pieces:
            if next_kind is kind and (
                kind is _Kind.ZERO or (kind is _Kind.DATA and next_where == where + length)
            ):  # fmt: skip
                length += next_length
            else:
                yield kind, length, where
                kind, length, where = next_kind, next_length, next_where
        yield kind, length, where

    def _clusters(self, entries: array[int]) -> Iterator[_Mapping]:
        size, within = self._cluster_size, self._cluster_size - 1
        zero, data, compressed = _Kind.ZERO, _Kind.DATA, _Kind.COMPRESSED
        for entry in entries:
            if entry & _COMPRESSED:
                yield compressed, size, entry
                continue
            where = entry & _OFFSET_MASK
            if where & within:
                raise MalformedImageError(f"a qcow2 data cluster lies at offset {where}, between two clusters")
            if entry & _READS_AS_ZEROS:
                if self._header.version == 2:
                    raise MalformedImageError("a qcow2 image of version 2 has a zero cluster of version 3")
                yield zero, size, 0
            elif where:
                yield data, size, where
            else:
                yield zero, size, 0

    def _subclusters(self, entries: array[int]) -> Iterator[_Mapping]:
        """Each entry is followed by a bitmap: bit x is set for an allocated subcluster, bit 32 + x for zeros."""
        size = self._cluster_size
        for entry, bitmap in zip(entries[::2], entries[1::2], strict=True):
            allocated, zeros = bitmap & _ALL_SUBCLUSTERS, bitmap >> _SUBCLUSTERS
            where = entry & _OFFSET_MASK
            if entry & _COMPRESSED:
                yield _Kind.COMPRESSED, size, entry
            elif where & (size - 1) or allocated & zeros or (allocated and not where):
                raise MalformedImageError(f"a qcow2 L2 entry is at odds with its subclusters: {bitmap:#x}")
            elif allocated == _ALL_SUBCLUSTERS:
                yield _Kind.DATA, size, where
            elif not allocated:
                yield _Kind.ZERO, size, 0
            else:
                part = size // _SUBCLUSTERS
                for number in range(_SUBCLUSTERS):
                    is_data = allocated >> number & 1
                    yield (_Kind.DATA, part, where + number * part) if is_data else (_Kind.ZERO, part, 0)

    # --- tables -------------------------------------------------------------------------------------------------------

    def _load_l1_page(self, number: int) -> array[int]:
        first = number * _L1_PAGE_ENTRIES
        count = min(_L1_PAGE_ENTRIES, self._header.l1_size - first)
        offset = self._header.l1_table_offset + first * 8
        return _entries(self._file.read_exactly(offset, count * 8, "the qcow2 L1 table"))

    def _l2_offset(self, index: int) -> int:
        page, within = divmod(index, _L1_PAGE_ENTRIES)
        return self._l1_pages.get(page)[within] & _OFFSET_MASK

    def _load_l2(self, index: int) -> array[int]:
        offset = self._l2_offset(index)
        if offset % self._cluster_size:
            raise MalformedImageError("a qcow2 L2 table lies between two clusters")
        return _entries(self._file.read_exactly(offset, self._cluster_size, "a qcow2 L2 table"))

    # --- bytes --------------------------------------------------------------------------------------------------------

    def _read_data(self, where: int, length: int) -> bytes:
        data = self._file.read(where, length)
        if len(data) < length:
            # Programs need not write what follows the data in the last cluster, but they begin it.
            last_cluster = (where + length - 1) & -self._cluster_size
            if last_cluster >= self._file.size:
                raise TruncatedError(f"a qcow2 data cluster lies at byte {last_cluster}, behind the end of the file")
            data += bytes(length - len(data))
        return data

    def _place(self, entry: int) -> tuple[int, int]:
        """Where a compressed cluster begins and ends in the file, at most (spec: "Compressed Clusters Descriptor")."""
        begin = entry & ((1 << self._offset_bits) - 1)
        sectors = ((entry & (_COMPRESSED - 1)) >> self._offset_bits) + 1
        if begin >= self._file.size:
            raise TruncatedError(f"a compressed qcow2 cluster lies at byte {begin}, behind the end of the file")
        return begin, (begin & -512) + sectors * 512

    def _decompress_entry(self, entry: int) -> bytes:
        begin, end = self._place(entry)
        return self._decompress(self._file.read(begin, end - begin))

    def _decompress_many(self, entries: list[int]) -> list[bytes]:
        """Whole clusters; those that lie together, as they do in most images, are read together."""
        places = [self._place(entry) for entry in entries]
        begin, end = min(place[0] for place in places), max(place[1] for place in places)
        if end - begin > len(entries) * 2 * self._cluster_size:
            return [self._decompress_entry(entry) for entry in entries]
        data = memoryview(self._file.read(begin, end - begin))
        return [self._decompress(data[first - begin : last - begin]) for first, last in places]

    def _decompress(self, data: bytes | memoryview) -> bytes:
        decompress = decompress_zstd if self._header.is_zstd else inflate
        return decompress(data, self._cluster_size, "a compressed qcow2 cluster")


class _Allowance:
    """What the tables may name in all: no more than the file can hold, or a small file could mean endless work."""

    def __init__(self, file_size: int, header: Qcow2Header) -> None:
        self._left = file_size + header.cluster_size  # the last cluster need not be whole
        self._cluster_size = header.cluster_size
        ratio = _ZSTD_MAX_RATIO if header.is_zstd else _DEFLATE_MAX_RATIO
        self._least_compressed = max(1, header.cluster_size // ratio)

    def take_table(self) -> None:
        """Count a table."""
        self.take(_Kind.DATA, self._cluster_size)

    def take(self, kind: _Kind, length: int) -> None:
        """Count some data."""
        if kind is not _Kind.ZERO:
            self._left -= length if kind is _Kind.DATA else self._least_compressed
            if self._left < 0:
                raise MalformedImageError("the qcow2 tables name more data than the file can hold")


def _entries(table: bytes) -> array[int]:
    return integers(table, "Q", big_endian=True)


def _read_header(file: ByteFile) -> Qcow2Header:
    header = read_header(file.read_exactly)
    check_tables(header)
    if header.crypt_method:
        raise UnsupportedImageError("the disk in the qcow2 image is encrypted")
    return header


def _open(file: ByteFile) -> Disk:
    return Qcow2Disk(file)


READER = Reader(DiskFormat.QCOW2, _open)
