"""What it costs to know an image: inspection in the staging pass, the guest-disk digest, conversion beside qemu-img."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from unittest import mock

from benchmarks.disks import MIB, Disks, make_compressible_raw, make_sparse_raw
from benchmarks.measure import side_by_side, table
from services.importer import one_pass
from services.importer.expectations import Expectations
from tintype.adapters.filesystem.store import FileImageStore
from tintype.disks.guest_digest import digest_of
from tintype.disks.opening import open_disk
from tintype.disks.to_raw import write_raw
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspection, Inspector

_PIECE = 1 * MIB
_SPARSE_SIZE = 10 * 1024 * MIB

CONVERSIONS: dict[str, tuple[DiskFormat, tuple[str, ...], tuple[str, ...]]] = {
    "qcow2": (DiskFormat.QCOW2, ("-O", "qcow2"), ()),
    "qcow2, zlib": (DiskFormat.QCOW2, ("-c", "-O", "qcow2"), ("-W", "-m", "8")),
    "qcow2, zstd": (DiskFormat.QCOW2, ("-c", "-O", "qcow2", "-o", "compression_type=zstd"), ("-W", "-m", "8")),
    "vmdk, streamOptimized": (DiskFormat.VMDK, ("-O", "vmdk", "-o", "subformat=streamOptimized"), ()),
    "vdi": (DiskFormat.VDI, ("-O", "vdi"), ()),
    "vhd": (DiskFormat.VHD, ("-O", "vpc", "-o", "force_size=on"), ("-W", "-m", "8")),
    "vhdx": (DiskFormat.VHDX, ("-O", "vhdx"), ("-W", "-m", "8")),
    "ploop": (DiskFormat.PLOOP, ("-O", "parallels"), ()),
}
"""By name: the format, how qemu-img makes it, and the options that make qemu-img fastest at converting it to raw."""

_QEMU_NAMES = {DiskFormat.VHD: "vpc", DiskFormat.PLOOP: "parallels"}


class NoInspector:
    """Looks at nothing: what a staging pass would be without inspection."""

    def __init__(self, declared: DiskFormat | None, **_: object) -> None:
        self._declared = declared or DiskFormat.RAW

    def feed(self, chunk: bytes | memoryview) -> None:
        """Pass it by."""

    def finish(self) -> Inspection:
        """What was declared."""
        return Inspection(self._declared, None, {})


async def report(directory: Path, disks: Disks, runs: int) -> str:
    """The three tables."""
    parts = [
        await _inspection(directory, disks, runs),
        await _digest(directory, disks.size, runs),
        await _conversion(directory, disks, runs),
    ]
    return "\n\n".join(parts)


async def _inspection(directory: Path, disks: Disks, runs: int) -> str:
    store = FileImageStore("bench", directory / "store")
    await store.prepare()

    async def stage(path: Path, disk_format: DiskFormat, inspector: type) -> None:
        with mock.patch.object(one_pass, "Inspector", inspector):
            key = "00000000-0000-0000-0000-000000000001/00000000-0000-0000-0000-000000000002/bench"
            expectations = Expectations(disk_format, frozenset({"sha256"}), 1 << 50, 1 << 50)
            taking = one_pass.OnePass(expectations, await store.open_write(key))
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    await taking.feed(piece)
            await taking.finish("bench")
            await store.delete(key)

    rows = []
    for name, path, disk_format in (("qcow2", disks.qcow2, DiskFormat.QCOW2), ("raw", disks.raw, DiskFormat.RAW)):
        taken = await side_by_side(
            runs,
            {
                "with": partial(stage, path, disk_format, Inspector),
                "without": partial(stage, path, disk_format, NoInspector),
            },
            _settle,
        )
        rows.append([name, str(taken["with"]), str(taken["without"]), taken["with"].ratio(taken["without"])])
    await store.aclose()
    return table(["staging pass of", "with inspection, s", "without, s", "ratio (goal ≤ 1.1)"], rows)


async def _digest(directory: Path, data: int, runs: int) -> str:
    sparse = make_sparse_raw(directory / "sparse.raw", _SPARSE_SIZE, data)
    taken = await side_by_side(
        runs,
        {
            "digest": lambda: asyncio.to_thread(_guest_digest, sparse, DiskFormat.RAW),
            "hash": lambda: asyncio.to_thread(_hash_beginning, sparse, data),
        },
        _settle,
    )
    sparse.unlink()
    row = [str(taken["digest"]), str(taken["hash"]), taken["digest"].ratio(taken["hash"])]
    title = f"guest digest of {_SPARSE_SIZE // MIB} MiB with {data // MIB} MiB of data, s"
    return table([title, "SHA-256 of the data alone, s", "ratio (goal ≤ 1.3)"], [row])


async def _conversion(directory: Path, disks: Disks, runs: int) -> str:
    rows = []
    raw = make_compressible_raw(directory / "text.raw", disks.size)
    for name, (disk_format, making, reading) in CONVERSIONS.items():
        image, output = directory / "image", directory / "output"
        subprocess.run(["qemu-img", "convert", "-f", "raw", *making, str(raw), str(image)], check=True)
        qemu_name = _QEMU_NAMES.get(disk_format, str(disk_format))
        command = ["qemu-img", "convert", *reading, "-f", qemu_name, "-O", "raw", str(image), str(output)]
        contestants: dict[str, Callable[[], Awaitable[object]]] = {
            "ours": partial(asyncio.to_thread, _convert, image, disk_format, output),
            "theirs": partial(asyncio.to_thread, partial(subprocess.run, command, check=True)),
        }
        taken = await side_by_side(runs, contestants, partial(_settle, output))
        rows.append([name, str(taken["ours"]), str(taken["theirs"]), taken["ours"].ratio(taken["theirs"])])
        image.unlink()
    raw.unlink()
    head = ["to raw from", "Tintype, guest digest included, s", "qemu-img convert, s", "ratio (goal ≤ 1.1)"]
    return table(head, rows)


def _convert(image: Path, disk_format: DiskFormat, output: Path) -> None:
    output.touch()
    with open_disk(image, disk_format) as disk:
        write_raw(disk, output)


def _guest_digest(path: Path, disk_format: DiskFormat) -> None:
    with open_disk(path, disk_format) as disk:
        digest_of(disk)


def _hash_beginning(path: Path, length: int) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while length > 0 and (piece := file.read(_PIECE)):
            digest.update(piece)
            length -= len(piece)


async def _settle(output: Path | None = None) -> None:
    if output:
        output.unlink(missing_ok=True)
    await asyncio.to_thread(os.sync)
