"""Making the output of a conversion, by the tool that the plan names, and the digest of the disk that went in."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import assert_never

import tintype
from services.converter.converting import Converting
from services.converter.examining import guest_digest
from services.converter.plan import Convert, SourceDisk, Tool, VhdSizeRule
from services.converter.qemu_img import convert
from services.converter.root_disk import make_root_disk
from services.converter.watched import Tell, both, watched
from tintype.disks.opening import open_disk
from tintype.disks.readers.vhd import is_sized_by_geometry
from tintype.disks.to_raw import write_raw
from tintype.domain.errors import ConversionFailedError, InternalError
from tintype.domain.events import SandboxKind, SandboxProfile
from tintype.domain.values import Blob, DiskFormat, Fact, GuestDigest
from tintype.runtime.jail import JailLimits, Sandbox

IN_PROCESS = SandboxProfile(SandboxKind.IN_PROCESS)
_ENCODINGS = tuple(f"{disk_format}_" for disk_format in DiskFormat)


@dataclass(frozen=True, slots=True)
class Source:
    """The staged bytes as a file, and where in it the guest's disk is; ``None`` where there is none yet."""

    path: Path
    staged: Blob
    disk: SourceDisk | None

    @property
    def disk_bytes(self) -> int:
        """The size of the guest's disk; of the file where nobody knows."""
        return self.staged.size if self.staged.virtual_size is None else self.staged.virtual_size


@dataclass(frozen=True, slots=True)
class Made:
    """What made the output, for the attestation, and the digest of the guest's disk that it was made from.

    ``arguments`` are without the names of files on this machine.
    """

    tool: str
    version: str
    arguments: tuple[str, ...]
    source_digest: GuestDigest | None
    sandbox: SandboxProfile


async def make_output(plan: Convert, source: Source, output: Path, converting: Converting, on_progress: Tell) -> Made:
    """Write the disk in ``source`` to ``output``, an existing and empty file. ``on_progress`` gets bytes of the disk.

    Raises:
        ConversionFailedError: a tool refused the image, or came to a limit.
        RefusedContentError: the image is not what its tables say.
        StoreFullError, StoreUnavailableError: the output cannot be written.
    """
    match plan.tool:
        case Tool.READER:
            return await _write_raw(plan, source, output, on_progress)
        case Tool.QEMU_IMG:
            return await _run_qemu_img(plan, source, output, converting, on_progress)
        case Tool.ROOT_DISK:
            return await _make_root_disk(source, output, converting, on_progress)
        case _:
            assert_never(plan.tool)


def sandbox_profile(sandbox: Sandbox, limits: JailLimits) -> SandboxProfile:
    """How a tool was confined, for the attestation; the seconds of the wall clock are rounded up."""
    kind = SandboxKind.NONE if sandbox.bubblewrap is None else SandboxKind.BUBBLEWRAP
    named = {name: math.ceil(value) for name, value in asdict(limits).items()}
    return SandboxProfile(kind, named, is_seccomp_filtered=sandbox.seccomp is not None)


def surviving_facts(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """What is still true of the disk in another format: not what was read of the encoding."""
    return {key: fact for key, fact in facts.items() if not key.startswith((*_ENCODINGS, "vmware_"))}


async def _write_raw(plan: Convert, source: Source, output: Path, on_progress: Tell) -> Made:
    disk = _disk(source)

    def work(tell: Tell) -> GuestDigest:
        with open_disk(source.path, disk.disk_format, offset=disk.offset, length=disk.length) as opened:
            return write_raw(opened, output, on_progress=lambda part: tell(int(part * opened.size)))

    digest = await watched(work, on_progress)
    return Made(plan.tool, tintype.__version__, ("write-raw", str(disk.disk_format)), digest, IN_PROCESS)


async def _run_qemu_img(plan: Convert, source: Source, output: Path, converting: Converting, on_progress: Tell) -> Made:
    if converting.sandbox is None:
        raise InternalError("a conversion was planned, and the converter has no sandbox to do it in")
    disk = await asyncio.to_thread(as_we_read_it, source.path, _disk(source))
    disk_bytes = source.disk_bytes
    result, digest = await both(
        convert(
            source.path,
            disk,
            output,
            plan.output_format,
            virtual_size=disk_bytes,
            compression=converting.preference.qcow2_compression,
            limits=converting.limits,
            sandbox=converting.sandbox,
            on_progress=lambda part: on_progress(int(part * disk_bytes)),
            version=converting.qemu_version,
        ),
        _known_or_read(source, disk),
    )
    profile = sandbox_profile(converting.sandbox, result.limits)
    return Made(result.tool, result.version, result.arguments, digest, profile)


def as_we_read_it(path: Path, disk: SourceDisk) -> SourceDisk:
    """With what qemu-img must be told to read the same disk as we do. Blocks."""
    if disk.disk_format is not DiskFormat.VHD:
        return disk
    by_geometry = is_sized_by_geometry(path, offset=disk.offset, length=disk.length)
    return replace(disk, vhd_size_rule=VhdSizeRule.GEOMETRY if by_geometry else VhdSizeRule.CURRENT_SIZE)


async def _known_or_read(source: Source, disk: SourceDisk) -> GuestDigest:
    return source.staged.guest_digest or await guest_digest(source.path, disk)


async def _make_root_disk(source: Source, output: Path, converting: Converting, on_progress: Tell) -> Made:
    if converting.sandbox is None:
        raise InternalError("a conversion was planned, and the converter has no sandbox to do it in")
    result = await make_root_disk(
        source.path, output, limits=converting.limits, sandbox=converting.sandbox,
        scratch_dir=converting.scratch_dir, on_progress=on_progress,
    )  # fmt: skip
    profile = sandbox_profile(converting.sandbox, converting.limits)
    return Made(result.tool, result.version, result.arguments, None, profile)


def _disk(source: Source) -> SourceDisk:
    if source.disk is None:
        raise ConversionFailedError("there is no disk in the image that could be read")
    return source.disk
