"""Images whose headers and tables were changed: where the inspector lets one in, whose reading of its disk is ours?

QEMU is the referee. A program on a compute host opens the image that was let in, so a disk that it reads otherwise than
we do is a disk that nobody inspected, and whose digest is of something else.
"""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from services.converter.making import as_we_read_it
from services.converter.plan import SourceDisk, qemu_img_arguments, readable_disk
from tintype.disks.opening import open_disk
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import Blob, BlobRef, DiskFormat
from tintype.inspect import Inspector
from tintype.testing.images import SUBFORMATS, make_image
from tintype.testing.mutable_disks import MutableDisk, mutable_disks

MAX_DISK_BYTES = 64 * 1024 * 1024
"""Larger disks are not compared, for the sake of time."""

_MIB = 1024 * 1024
_TIMEOUT_S = 60
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Difference:
    """What the two make of one image: the digest of the disk, or why it cannot be read."""

    ours: str
    theirs: str

    @property
    def is_silent(self) -> bool:
        """Whether both read a disk, and not the same one."""
        return self.ours[:1].isdigit() and self.theirs[:1].isdigit()


def seeds(directory: Path) -> Mapping[str, MutableDisk]:
    """Sound images: those made by hand, and qemu-img's of a small disk."""
    disk = _make_disk(directory / "disk")
    found = dict(mutable_disks())
    found["vhd"] = replace(found["vhd"], repair=_repair_dynamic_vhd)
    for name in SUBFORMATS:
        disk_format = SUBFORMATS[name][0]
        if disk_format is not DiskFormat.RAW:
            image = make_image(disk, name, directory / name).read_bytes()
            found[f"qemu-{name}"] = _mutable(disk_format, image)
    return found


def changed(seed: MutableDisk, choice: random.Random) -> bytes:
    """The image with a few fields of its headers and tables changed, and its checksums right."""
    metadata = bytearray(seed.metadata())
    for _ in range(choice.choice((1, 1, 2, 3))):
        _change(metadata, choice)
    image = seed.with_metadata(bytes(metadata))
    if choice.random() < 0.1:
        del image[-choice.choice((1, 511, 512, 1024, 65536)) :]
    elif choice.random() < 0.1:
        image += bytes(choice.choice((1, 511, 512, 65536)))
    return bytes(image)


def difference(path: Path, disk_format: DiskFormat) -> Difference | None:
    """How QEMU's reading of an image differs from ours; ``None`` if it does not, or if the image is refused."""
    try:
        inspector = Inspector(None, max_virtual_size=MAX_DISK_BYTES)
        with path.open("rb") as file:
            while piece := file.read(256 * 1024):
                inspector.feed(piece)
        inspection = inspector.finish()
    except RefusedContentError:
        return None
    if inspection.disk_format is not disk_format or "encryption" in inspection.facts:
        return None
    blob = Blob(BlobRef("main", "key"), path.stat().st_size, {}, disk_format, inspection.virtual_size, inspection.facts)
    source = readable_disk(blob)
    assert source is not None
    ours, theirs = _ours(path, disk_format), _theirs(path, as_we_read_it(path, source))
    if not ours.startswith(("refused", f"{inspection.virtual_size} ")):
        return Difference(f"{inspection.virtual_size}, it was inspected, and then {ours}", theirs)
    if ours == theirs or (ours.startswith("refused") and theirs.startswith("failed")):
        return None
    return Difference(ours, theirs)


def _ours(path: Path, disk_format: DiskFormat) -> str:
    try:
        with open_disk(path, disk_format) as disk:
            digest, position = hashlib.sha256(), 0
            for extent in disk.extents():
                assert extent.offset == position, "extents have gaps"
                position = extent.end
                for begin in range(extent.offset, extent.end, _MIB):
                    length = min(_MIB, extent.end - begin)
                    digest.update(bytes(length) if extent.is_zero else disk.read(begin, length))
            assert position == disk.size, "extents end elsewhere"
            return f"{disk.size} {digest.hexdigest()}"
    except RefusedContentError as error:
        return f"refused: {error.message}"


def _theirs(path: Path, source: SourceDisk) -> str:
    raw = path.with_suffix(".raw")
    raw.unlink(missing_ok=True)
    command = ["/usr/bin/qemu-img", *qemu_img_arguments(source, DiskFormat.RAW, str(path))]
    done = subprocess.run(
        ["/usr/bin/prlimit", "--as=2147483648", "--fsize=1073741824", *command, str(raw)],
        capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        return f"failed: {done.stderr.strip()[:200]}"
    digest = hashlib.sha256()
    with raw.open("rb") as file:
        while piece := file.read(_MIB):
            digest.update(piece)
    size = raw.stat().st_size
    raw.unlink()
    return f"{size} {digest.hexdigest()}"


def _make_disk(path: Path) -> Path:
    """Eight MiB: data in some places, zeros in others."""
    choice = random.Random(8)
    with path.open("wb") as file:
        for offset in (0, 300_000, 2 * _MIB + 512, 5 * _MIB, 8 * _MIB - 4096):
            file.seek(offset)
            file.write(choice.randbytes(4096) + b"text " * 20_000 if offset < 6 * _MIB else choice.randbytes(4096))
        file.truncate(8 * _MIB)
    return path


def _mutable(disk_format: DiskFormat, image: bytes) -> MutableDisk:
    by_hand = mutable_disks()
    places = tuple(_places(disk_format, image))
    match disk_format:
        case DiskFormat.VHDX:
            return MutableDisk(disk_format, image, places, by_hand["vhdx"].repair)
        case DiskFormat.VHD if image.startswith(b"conectix"):
            return MutableDisk(disk_format, image, places, _repair_dynamic_vhd)
        case DiskFormat.VHD:
            return MutableDisk(disk_format, image, places, by_hand["vhd-fixed"].repair)
        case _:
            return MutableDisk(disk_format, image, places)


def _repair_dynamic_vhd(image: bytearray) -> None:
    mutable_disks()["vhd"].repair(image)
    image[-512:] = image[:512]


def _places(disk_format: DiskFormat, image: bytes) -> Iterator[tuple[int, int]]:
    """Where the headers are, and the begin of each table."""
    match disk_format:
        case DiskFormat.QCOW2:
            (cluster_bits,) = struct.unpack_from(">I", image, 20)
            (l1_size,) = struct.unpack_from(">I", image, 36)
            (l1,) = struct.unpack_from(">Q", image, 40)
            yield 4, 160
            yield l1, l1 + 8 * l1_size
            for entry in struct.unpack_from(f">{l1_size}Q", image, l1):
                if place := entry & 0x00FF_FFFF_FFFF_FE00:
                    yield place, place + min(1 << cluster_bits, 2048)
        case DiskFormat.VMDK:
            yield 4, 80
            yield 512, 1024
            yield from ((at, min(at + 512, len(image))) for at in _vmdk_tables(image))
        case DiskFormat.VHD if image.startswith(b"conectix"):
            yield 8, 100
            yield 512, 560
            yield 1536, 1536 + 64
        case DiskFormat.VHD:
            yield len(image) - 512, len(image) - 400
        case DiskFormat.VDI:
            yield 64, 472
            yield 512, 576
        case DiskFormat.VHDX:
            yield 65536, 65536 + 100
            yield 196608, 196608 + 100
            for at in range(_MIB, min(len(image), 4 * _MIB), _MIB):
                yield at, at + 256
            yield 2 * _MIB + 65536, 2 * _MIB + 65536 + 40
        case DiskFormat.PLOOP:
            yield 0, 128


def _vmdk_tables(image: bytes) -> Iterator[int]:
    (directory,) = struct.unpack_from("<Q", image, 56)
    if directory == 0xFFFF_FFFF_FFFF_FFFF:
        yield len(image) - 1536
        yield len(image) - 1024
        (directory,) = struct.unpack_from("<Q", image, len(image) - 1024 + 56)
    yield directory * _SECTOR
    (table,) = struct.unpack_from("<I", image, directory * _SECTOR)
    yield table * _SECTOR


def _change(metadata: bytearray, choice: random.Random) -> None:
    width = choice.choice((1, 2, 4, 4, 4, 8, 8, 8))
    at = choice.randrange(0, max(1, len(metadata) - width)) // width * width
    order: Literal["big", "little"] = choice.choice(("big", "little"))
    old = int.from_bytes(metadata[at : at + width], order)
    other = choice.randrange(0, max(1, len(metadata) - width)) // width * width
    limit = 1 << 8 * width
    new = choice.choice(
        (
            old ^ 1 << choice.randrange(8 * width),
            old + choice.choice((1, -1, 2, -2, 8, 512, 4096, 65536, -512, -65536, _MIB)),
            choice.choice((0, 1, 2, 3, 6, 7, 16, 512, 4096, 65536, _MIB, 8 * _MIB, limit - 1, limit // 2)),
            int.from_bytes(metadata[other : other + width], order),
            old * 2,
            old // 2,
            old & ~(_SECTOR - 1),
        )
    )  # fmt: skip
    metadata[at : at + width] = (new % limit).to_bytes(width, order)


def main() -> None:
    """Try changes for some seconds, and print what differs silently: ``python -m tests.fuzz.differential SECONDS``."""
    end, number = time.monotonic() + float(sys.argv[1]), time.time_ns()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        images = seeds(directory)
        while time.monotonic() < end:
            number += 1
            for image_name, image in images.items():
                path = directory / "image"
                path.write_bytes(changed(image, random.Random(f"{image_name}/{number}")))
                found = difference(path, image.disk_format)
                if found and found.is_silent:
                    print(image_name, number, found)


if __name__ == "__main__":
    main()
