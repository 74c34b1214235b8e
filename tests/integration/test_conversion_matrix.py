"""Every format to every format, by whichever tool the plan names: the guest's disk is the same before and after."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from services.converter.converting import Converting
from services.converter.examining import examine, guest_digest
from services.converter.making import Made, Source, make_output
from services.converter.plan import (
    OUTPUT_FORMATS,
    Convert,
    Preference,
    Qcow2Compression,
    SourceDisk,
    plan_conversion,
    readable_disk,
)
from services.converter.qemu_img import qemu_img_version
from tintype.domain.values import Blob, BlobRef, DiskFormat, GuestDigest
from tintype.inspect import Inspector
from tintype.runtime.jail import JailLimits, Sandbox, detect_sandbox
from tintype.testing.handmade_archives import ONE_DISK, ova, ovf
from tintype.testing.images import SUBFORMATS, make_disk, make_image, run_qemu_img, set_vhd_creator

pytestmark = [pytest.mark.qemu, pytest.mark.sandbox]

MIB = 1024 * 1024
DISK_BYTES = 8 * MIB
GEOMETRY = 240 << 16 | 4 << 8 | 17
"""Cylinders, heads and sectors of a VHD: a little less than the disk, as they most often are."""
GEOMETRY_BYTES = 240 * 4 * 17 * 512
LIMITS = JailLimits(wall_clock_s=60, cpu_s=60)
FORMATS = {name: disk_format for name, (disk_format, _) in SUBFORMATS.items()} | {
    "ploop": DiskFormat.PLOOP,
    "ova": DiskFormat.OVA,
}
PAIRS = [(name, output) for name, found in FORMATS.items() for output in sorted(OUTPUT_FORMATS) if found is not output]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return detect_sandbox()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("disk") / "disk.raw", size_bytes=DISK_BYTES)


@pytest.fixture(scope="module")
def images(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same disk in every format."""
    directory = tmp_path_factory.mktemp("images")
    made = {name: make_image(disk, name, directory / name) for name in SUBFORMATS}
    made["ploop"] = make_ploop(disk, directory / "ploop")
    return {**made, "ova": make_ova(made["vmdk-stream"], directory / "appliance.ova")}


def make_ploop(disk: Path, path: Path) -> Path:
    """QEMU calls it after the program that it comes from."""
    run_qemu_img("convert", "-f", "raw", "-O", "parallels", str(disk), str(path))
    return path


def make_ova(vmdk: Path, path: Path) -> Path:
    """An appliance with one disk."""
    disks = ONE_DISK.replace('capacity="1"', f'capacity="{DISK_BYTES // MIB}"')
    path.write_bytes(ova(ovf(disks=disks), disk=vmdk.read_bytes()))
    return path


def staged(path: Path) -> Blob:
    content = path.read_bytes()
    inspector = Inspector(None)
    inspector.feed(content)
    found = inspector.finish()
    return Blob(BlobRef("main", "key"), len(content), {}, found.disk_format, found.virtual_size, found.facts)


async def convert(path: Path, preference: Preference, output: Path, sandbox: Sandbox) -> tuple[Convert, Made]:
    blob = staged(path)
    plan = plan_conversion(blob.disk_format, preference, is_import=True)
    assert isinstance(plan, Convert)
    output.touch()
    converting = Converting(preference, LIMITS, output.parent, sandbox, await qemu_img_version(sandbox))
    made = await make_output(plan, Source(path, blob, readable_disk(blob)), output, converting, lambda _: None)
    return plan, made


async def digest_of_raw(disk: Path) -> GuestDigest:
    return await guest_digest(disk, SourceDisk(DiskFormat.RAW))


@pytest.mark.parametrize(("source", "output_format"), PAIRS)
async def test_every_pair_of_formats_holds_the_same_disk(
    source: str, output_format: DiskFormat, images: dict[str, Path], disk: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    _, made = await convert(images[source], Preference(output_format), output, sandbox)
    examined = await examine(output, output_format, "sha256", lambda done, total: None)
    assert examined.guest_digest == made.source_digest == await digest_of_raw(disk)
    assert (examined.inspection.disk_format, examined.inspection.virtual_size) == (output_format, DISK_BYTES)
    run_qemu_img("compare", "-f", "raw", "-F", str(output_format), str(disk), str(output))
    assert output.stat().st_blocks * 512 < DISK_BYTES // 2  # sparse, or smaller from the outset


async def test_qcow2_output_may_be_compressed_and_has_no_subclusters(
    images: dict[str, Path], disk: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    await convert(images["vdi-dynamic"], Preference(DiskFormat.QCOW2, Qcow2Compression.ZSTD), output, sandbox)
    facts = staged(output).facts
    assert facts["qcow2_compression_type"].value == "zstd"
    assert facts["qcow2_extended_l2"].value is False
    run_qemu_img("compare", "-f", "raw", "-F", "qcow2", str(disk), str(output))


ODD_DISKS: dict[str, Callable[[], bytes]] = {
    "a thousand bytes": lambda: b"x" * 1000,
    "a chunk and a sector": lambda: bytes(MIB) + b"y" * 512,
    "zeros": lambda: bytes(3 * MIB),
    "full": lambda: random.Random(1).randbytes(3 * MIB + 65536),
}
"""Raw disks of sizes and contents that no program makes by default."""


@pytest.mark.parametrize("content", ODD_DISKS)
@pytest.mark.parametrize("source", [name for name in FORMATS if name != "ova"])
async def test_disk_of_an_odd_size_or_content_is_converted(
    source: str, content: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(ODD_DISKS[content]())
    image = tmp_path / "image"
    if source == "raw":
        image = raw
    elif source == "ploop":
        make_ploop(raw, image)
    else:
        make_image(raw, source, image)
    for output_format in sorted(OUTPUT_FORMATS - {FORMATS[source]}):
        output = tmp_path / f"output.{output_format}"
        _, made = await convert(image, Preference(output_format), output, sandbox)
        examined = await examine(output, output_format, "sha256", lambda done, total: None)
        assert examined.guest_digest == made.source_digest == await digest_of_raw(raw)
        run_qemu_img("compare", "-f", "raw", "-F", str(output_format), str(raw), str(output))


@pytest.mark.parametrize("creator", [b"vpc ", b"qemu", b"qem2", b"win ", b"vbox", b"wa\0\0"])
@pytest.mark.parametrize("kind", ["vhd-fixed", "vhd-dynamic"])
async def test_vhd_of_every_program_is_converted_whole(
    kind: str, creator: bytes, disk: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Of programs that qemu-img does not know it would take the size that the geometry says, and so cut the disk."""
    image = make_image(disk, kind, tmp_path / "image")
    set_vhd_creator(image, creator, GEOMETRY)
    for output_format in sorted(OUTPUT_FORMATS):
        output = tmp_path / f"output.{output_format}"
        _, made = await convert(image, Preference(output_format), output, sandbox)
        examined = await examine(output, output_format, "sha256", lambda done, total: None)
        assert examined.guest_digest == made.source_digest
        wanted = GEOMETRY_BYTES if creator in (b"vpc ", b"qemu") else DISK_BYTES
        assert examined.inspection.virtual_size == wanted
