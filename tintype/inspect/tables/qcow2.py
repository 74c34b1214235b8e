"""The tables of a QCOW2 as they pass by: how far the file must reach, and whether its clusters share places.

Guest data is never decoded. A table that lies before the one that names it has passed, and is left out.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

from tintype.domain.errors import DecompressionBombError, MalformedImageError
from tintype.inspect.stream import MAX_REGION_SIZE, Stream, Wish, integers
from tintype.inspect.tables.allocation import PIECE_SIZE, Allocation, least_deflated, least_zstd
from tintype.inspect.tables.qcow2_header import MAX_L1_BYTES, Qcow2Header

_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00  # bits 9-55 of an L1 or a standard L2 entry
_COMPRESSED = 1 << 62
_ALL_ZEROES = 1

_MAX_L2_ENTRIES = 1 << 24
"""Entries of all L2 tables that are read, which bounds the time: a disk of 1 TiB, by clusters of 64 KiB."""

_SNAPSHOT = struct.Struct(">QIHHIIQII")
_SNAPSHOT_EXTRA = struct.Struct(">QQ")
# QEMU's limits (block/qcow2.h: QCOW_MAX_SNAPSHOT_EXTRA_DATA, QCOW_MAX_SNAPSHOTS_SIZE)
_MAX_SNAPSHOT_EXTRA = 1024
_MAX_SNAPSHOTS_BYTES = 64 * 1024 * 1024

_LUKS_MAGIC = b"LUKS\xba\xbe"

_Reading = Generator[Wish, bytes, None]
_Job = tuple[int, Callable[[], _Reading]]


@dataclass(slots=True)
class Tables:
    """What the tables say, as far as they could be read.

    ``reach`` is how many bytes the file has at least, ``vm_state_size`` the bytes of the largest saved machine.
    """

    reach: int = 0
    vm_state_size: int | None = None
    luks_version: int | None = None


class TableReader:
    """Reads the tables of one image, in the order of the file. :attr:`found` is whole once :meth:`read` is through."""

    def __init__(self, header: Qcow2Header, luks_offset: int | None, stream: Stream) -> None:
        """``luks_offset`` is where the header of the LUKS encryption lies."""
        self.found = Tables()
        self._header = header
        self._luks_offset = luks_offset
        self._stream = stream
        self._allocation = Allocation("qcow2 L2 entries")
        self._no_entries = bytes(min(PIECE_SIZE, header.cluster_size))
        self._least_compressed = (least_zstd if header.is_zstd else least_deflated)(header.cluster_size)
        # The offset takes the lower bits, then the count of further sectors (spec: "Compressed Clusters Descriptor").
        self._compressed_offset_bits = 62 - (header.cluster_bits - 8)

    def read(self) -> _Reading:
        """Read all that passes.

        Raises:
            TruncatedError: the L1 or the snapshot table ends beyond the file.
            MalformedImageError: a table lies between clusters or over another, or a snapshot is absurd.
            DecompressionBombError: entries of a table share places.
        """
        aside = list(self._aside())
        l1_offset = self._header.l1_table_offset
        yield from _in_order(job for job in aside if job[0] < l1_offset)
        l2_offsets = yield from self._read_l1()
        wanted = l2_offsets[: _MAX_L2_ENTRIES // self._header.l2_entries]
        l2_jobs = ((offset, partial(self._read_l2, offset)) for offset in wanted)
        yield from _in_order(chain((job for job in aside if job[0] >= l1_offset), l2_jobs))

    def check_whole(self) -> None:
        """Check, once the stream has ended, that the file has room for all that the tables name.

        Raises:
            TruncatedError: it ends before.
            DecompressionBombError: more is named than the file has.
        """
        header, stream = self._header, self._stream
        stream.require_size(header.l1_end, "the qcow2 L1 table")
        stream.require_size(header.refcount_table_end, "the qcow2 refcount table")
        if header.nb_snapshots:
            stream.require_size(header.snapshots_offset + header.nb_snapshots * _SNAPSHOT.size, "the snapshot table")
        stream.require_size(self.found.reach, "the data that the qcow2 tables name")
        self._allocation.require_backed(stream.size)

    def _aside(self) -> Iterator[_Job]:
        if self._header.nb_snapshots:
            yield self._header.snapshots_offset, self._read_snapshots
        if self._luks_offset is not None:
            yield self._luks_offset, partial(self._read_luks, self._luks_offset)

    def _read_l1(self) -> Generator[Wish, bytes, list[int]]:
        """The offsets of all L2 tables that the part of the L1 table which is read names, in order."""
        header = self._header
        length = min(header.l1_size * 8, MAX_REGION_SIZE)
        data = yield from self._stream.read_exactly(header.l1_table_offset, length, "the qcow2 L1 table")
        named = [entry & _OFFSET_MASK for entry in integers(data, "Q", big_endian=True) if entry & _OFFSET_MASK]
        offsets = sorted(set(named))
        if len(offsets) < len(named):
            raise DecompressionBombError(f"{len(named)} L1 entries of the qcow2 share {len(offsets)} L2 tables")
        if any(offset % header.cluster_size for offset in offsets):
            raise MalformedImageError("a qcow2 L2 table lies between two clusters")
        for begin, end in (
            (0, header.cluster_size),
            (header.l1_table_offset, header.l1_end),
            (header.refcount_table_offset, header.refcount_table_end),
        ):
            if bisect_left(offsets, begin) < bisect_left(offsets, end):
                raise MalformedImageError("a qcow2 L2 table lies over the header or over another table")
        self._reach(offsets[-1] + header.cluster_size if offsets else 0)
        return offsets

    def _read_l2(self, offset: int) -> _Reading:
        end = offset + self._header.cluster_size
        for begin in range(offset, end, PIECE_SIZE):
            piece = yield from self._stream.read(begin, min(PIECE_SIZE, end - begin))
            if piece is not None and piece != self._no_entries:
                self._claim(piece)

    def _claim(self, table: bytes) -> None:
        entries = integers(table, "Q", big_endian=True)[:: self._header.l2_stride]
        compressed = [entry for entry in entries if entry & _COMPRESSED]
        # With subclusters this bit is not the entry's but reserved: what reads as zeros is in the second integer.
        skipped = _COMPRESSED | (_ALL_ZEROES if self._header.l2_stride == 1 else 0)
        plain = [entry & _OFFSET_MASK for entry in entries if not entry & skipped and entry & _OFFSET_MASK]
        # The last cluster may be short, since programs do not write what follows the data in it.
        self._reach(max(plain, default=-1) + 1)
        self._allocation.claim(plain, self._header.cluster_size)
        if compressed:
            self._claim_compressed(compressed)

    def _claim_compressed(self, entries: list[int]) -> None:
        bits = self._compressed_offset_bits
        mask = (1 << bits) - 1
        places = [entry & mask for entry in entries]
        self._allocation.claim(places, self._least_compressed)
        last = max(entries, key=lambda entry: (entry & mask & ~511) + ((entry & (_COMPRESSED - 1)) >> bits) * 512)
        self._reach((last & mask & ~511) + ((last & (_COMPRESSED - 1)) >> bits) * 512 + 1)

    def _read_snapshots(self) -> _Reading:
        """Entry by entry, since each has its own length."""
        header, offset = self._header, self._header.snapshots_offset
        if self._stream.has_passed(offset, _SNAPSHOT.size):
            return
        for _ in range(header.nb_snapshots):
            data = yield from self._stream.read_exactly(offset, _SNAPSHOT.size, "the qcow2 snapshot table")
            l1_offset, l1_size, id_size, name_size, _, _, _, vm_state_size, extra_size = _SNAPSHOT.unpack(data)
            extra_offset = offset + _SNAPSHOT.size
            offset = -(-(extra_offset + extra_size + id_size + name_size) // 8) * 8
            if extra_size > _MAX_SNAPSHOT_EXTRA or offset - header.snapshots_offset > _MAX_SNAPSHOTS_BYTES:
                raise MalformedImageError("the qcow2 snapshot table is absurdly long")
            disk_size = 0
            if extra_size >= _SNAPSHOT_EXTRA.size:
                extra = yield from self._stream.read_exactly(extra_offset, _SNAPSHOT_EXTRA.size, "a qcow2 snapshot")
                vm_state_size, disk_size = _SNAPSHOT_EXTRA.unpack(extra)
            self._check_snapshot(l1_offset, l1_size, vm_state_size, disk_size)
            self.found.vm_state_size = max(self.found.vm_state_size or 0, vm_state_size)

    def _check_snapshot(self, l1_offset: int, l1_size: int, vm_state_size: int, disk_size: int) -> None:
        """The snapshot's own L1 table maps its disk, and behind it the memory of the machine."""
        header = self._header
        if l1_size * 8 > MAX_L1_BYTES or l1_offset % header.cluster_size or l1_offset >= 1 << 63:
            raise MalformedImageError(f"a qcow2 snapshot has {l1_size} L1 entries at offset {l1_offset}")
        if vm_state_size + disk_size > (l1_size + 1) * header.bytes_per_l1_entry:
            raise MalformedImageError(
                f"a qcow2 snapshot of {disk_size} bytes and {vm_state_size} bytes of memory does not fit its L1 table"
            )
        self._reach(l1_offset + l1_size * 8)

    def _read_luks(self, offset: int) -> _Reading:
        data = yield from self._stream.read(offset, len(_LUKS_MAGIC) + 2)
        if data is None:
            return
        if not data.startswith(_LUKS_MAGIC):
            raise MalformedImageError("the qcow2 has no LUKS header where its own header says")
        self.found.luks_version = int.from_bytes(data[len(_LUKS_MAGIC) :], "big")

    def _reach(self, end: int) -> None:
        self.found.reach = max(self.found.reach, end)


def _in_order(jobs: Iterator[_Job]) -> _Reading:
    for _, job in sorted(jobs, key=lambda job: job[0]):
        yield from job()
