"""One look at a local file: detection and verdict, then what is on the guest's disk, then its digest.

The image is opened as a disk only when its headers were found safe. An operating system is looked for in the jail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from tintype.cli.bars import ReportBytes, byte_bar
from tintype.cli.exit_codes import ExitCode, refusal_code
from tintype.cli.plain import Plain, is_empty, natural_order, plain, sized_cell
from tintype.disks.byte_file import ByteFile
from tintype.disks.contents_jail import examine_contents
from tintype.disks.disk import Disk
from tintype.disks.guest_digest import digest_of
from tintype.disks.opening import open_disk
from tintype.domain.errors import ConfigurationError, RefusedContentError, UnsupportedImageError
from tintype.domain.values import DiskFormat, Fact, GuestDigest
from tintype.inspect import Inspection, Inspector
from tintype.inspect.compression.decompressor import SNIFF_SIZE
from tintype.inspect.compression.inspector import CompressedInspector
from tintype.inspect.compression.kinds import DECOMPRESSIBLE, compression_of
from tintype.inspect.inspection import place_of_disk
from tintype.inspect.second_opinion import FIRST
from tintype.runtime.sandbox import Sandbox, detect_sandbox

_NO_BAR_BELOW = 256 * 1024 * 1024
"""A smaller file is read before a person has seen a bar."""

_COMPRESSED_AS_THEY_ARE = (DiskFormat.AKI, DiskFormat.ARI)
"""Formats whose images are compressed themselves: what is inside is their own matter."""

_UNLIMITED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a site may not let in: a guest's disk over so many bytes, or so many times larger than its file."""

    virtual_size_bytes: int | None = None
    allocation_ratio: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found: ``refusal`` says why the image is not safe; ``guest_digest`` is told where it was asked for.

    ``opinions`` is what each program that was asked takes the bytes for. ``virtual_size`` is in bytes. Of an image that
    ``is_compressed`` all this is about the one inside.
    """

    disk_format: DiskFormat | None = None
    opinions: Mapping[str, str] = field(default_factory=dict)
    virtual_size: int | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    refusal: RefusedContentError | None = None
    is_compressed: bool = False
    wants_digest: bool = False
    guest_digest: GuestDigest | None = None

    @property
    def exit_code(self) -> ExitCode:
        """0 for a safe image, and one for each class of refusal."""
        return ExitCode.OK if self.refusal is None else refusal_code(self.refusal)

    @property
    def is_anything(self) -> bool:
        """Whether it is taken for a raw disk for want of a header, and nothing was found on it either."""
        is_told = {"encryption", "file_system", "partition_1_type"} & set(self.facts)
        return self.refusal is None and self.disk_format is DiskFormat.RAW and not is_told

    def fields(self) -> dict[str, Plain]:
        """The report in plain values; null where there is nothing to tell."""
        refusal = self.refusal
        values: dict[str, object] = {
            "format": self.disk_format,
            "safe": refusal is None,
            "reason": refusal and refusal.reason,
            "explanation": refusal and _explanation(refusal),
            "opinions": self.opinions,
            "virtual_size": self.virtual_size,
        }
        if self.wants_digest:
            values["guest_digest"] = self.guest_digest
        return {key: plain(value) for key, value in {**values, "facts": self.facts}.items()}

    def rows(self) -> list[tuple[str, str]]:
        """The report as a table: nothing that is not there, and nothing of the facts."""
        told = self.fields().items()
        return [(key, sized_cell(key, value)) for key, value in told if key != "facts" and not is_empty(value)]

    def fact_rows(self) -> list[tuple[str, str, str]]:
        """The facts as a table: key, value, and where it was read."""
        keys = sorted(self.facts, key=natural_order)
        return [(key, sized_cell(key, plain(self.facts[key].value)), self.facts[key].source) for key in keys]


def inspected(
    path: Path,
    declared: DiskFormat | None,
    *,
    limits: Limits,
    wants_digest: bool,
    wants_contents: bool,
    note: Callable[[str], None],
) -> Report:
    """Look at the image; ``note`` tells what could not be done although it was asked for.

    Raises:
        OSError, StoreUnavailableError: the file cannot be read.
    """
    report = replace(_verdict(path, declared, limits), wants_digest=wants_digest)
    if report.disk_format is None or report.refusal:
        return report
    if report.is_compressed:
        if wants_digest:
            note("no guest digest: decompress the image first")
        return report
    place = _Place.of(path, report.disk_format, report.facts)
    try:
        if wants_contents:
            read = asyncio.run(place.contents())
            report = replace(report, facts={**report.facts, **read})
        if wants_digest:
            report = replace(report, guest_digest=place.digest(note))
    except RefusedContentError as refusal:
        return replace(report, refusal=refusal)
    return report


def _explanation(refusal: RefusedContentError) -> str:
    """What is wrong with this image, and what to do about it."""
    return f"{refusal.message.rstrip('.')}. {refusal.hint}" if refusal.hint else refusal.message


def _verdict(path: Path, declared: DiskFormat | None, limits: Limits) -> Report:
    """What the bytes are, read once; of a compressed file the image inside, as an import takes it."""
    inspector = Inspector(
        declared, max_virtual_size=limits.virtual_size_bytes, max_allocation_ratio=limits.allocation_ratio
    )
    try:
        with ByteFile(path) as file:
            kind = compression_of(file.read(0, SNIFF_SIZE))
            is_compressed = kind in DECOMPRESSIBLE and declared not in _COMPRESSED_AS_THEY_ARE
            taker = CompressedInspector(inspector, max_size=_UNLIMITED) if is_compressed else inspector
            found = _fed(taker, file)
    except RefusedContentError as refusal:
        return Report(_known_format(inspector), inspector.opinions, refusal=refusal)
    return Report(found.disk_format, found.opinions, found.virtual_size, found.facts, is_compressed=is_compressed)


def _fed(taker: Inspector | CompressedInspector, file: ByteFile) -> Inspection:
    with _bar("inspect", file.size) as report:
        done = 0
        for piece in file.pieces():
            taker.feed(piece)
            done += len(piece)
            if report:
                report(done, file.size)
        return taker.finish()


def _known_format(inspector: Inspector) -> DiskFormat | None:
    """What a refused image was taken for, if it came so far."""
    first = inspector.opinions.get(FIRST)
    return DiskFormat(first) if first else None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the guest's disk is: a file, or a window of one."""

    path: Path
    disk_format: DiskFormat
    offset: int = 0
    length: int | None = None

    @classmethod
    def of(cls, path: Path, disk_format: DiskFormat, facts: Mapping[str, Fact]) -> _Place:
        """The disk inside of an appliance, and else the image."""
        place = place_of_disk(facts) if disk_format is DiskFormat.OVA else None
        return cls(path, *place) if place else cls(path, disk_format)

    async def contents(self) -> Mapping[str, Fact]:
        """What is on the disk; nothing where there is none that can be read."""
        return await examine_contents(
            self.path, self.disk_format, sandbox=_sandbox(), offset=self.offset, length=self.length
        )

    def digest(self, note: Callable[[str], None]) -> GuestDigest | None:
        """The disk's digest; ``None`` where there is none that can be read, which ``note`` tells."""
        try:
            with open_disk(self.path, self.disk_format, offset=self.offset, length=self.length) as disk:
                return _digest(disk)
        except UnsupportedImageError as exc:
            note(f"no guest digest: {exc.message}")
            return None


def _digest(disk: Disk) -> GuestDigest:
    size_bytes = disk.size
    with _bar("guest digest", size_bytes) as report:
        on_progress = None if report is None else lambda part: report(int(part * size_bytes), size_bytes)
        return digest_of(disk, on_progress=on_progress)


def _sandbox() -> Sandbox | None:
    try:
        return detect_sandbox()
    except ConfigurationError:
        return None  # a fact tells that no operating system was looked for, and why


def _bar(label: str, size_bytes: int) -> AbstractContextManager[ReportBytes | None]:
    """A bar for work that takes a while."""
    return byte_bar(label) if size_bytes >= _NO_BAR_BELOW else nullcontext()
