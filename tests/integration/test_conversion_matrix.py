"""Every format to every format, by whichever tool the plan names: the guest's disk is the same before and after."""

from __future__ import annotations

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
from tintype.testing.images import SUBFORMATS, make_disk, make_image, run_qemu_img

pytestmark = [pytest.mark.qemu, pytest.mark.sandbox]

MIB = 1024 * 1024
DISK_BYTES = 8 * MIB
LIMITS = JailLimits(wall_clock_s=60, cpu_s=60)
FORMATS = {name: disk_format for name, (disk_format, _) in SUBFORMATS.items()} | {"ova": DiskFormat.OVA}
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
    return {**made, "ova": make_ova(made["vmdk-stream"], directory / "appliance.ova")}


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
