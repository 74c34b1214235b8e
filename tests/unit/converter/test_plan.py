"""What is converted, what is skipped and why, and what qemu-img is told."""

from __future__ import annotations

import itertools

import pytest

from services.converter.plan import (
    OUTPUT_FORMATS,
    Convert,
    Preference,
    Qcow2Compression,
    Skip,
    SourceDisk,
    Tool,
    VhdSizeRule,
    plan_conversion,
    qemu_img_arguments,
    readable_disk,
)
from tintype.domain.errors import EncryptedImageError, InvalidFormatError
from tintype.domain.events import SkipReason
from tintype.domain.values import Blob, BlobRef, DiskFormat, Fact, PropertyValue

DISKS = (
    DiskFormat.RAW,
    DiskFormat.QCOW2,
    DiskFormat.VMDK,
    DiskFormat.VDI,
    DiskFormat.VHD,
    DiskFormat.VHDX,
    DiskFormat.PLOOP,
)


def plan(
    found: DiskFormat, preferred: DiskFormat | None, *, is_import: bool = True, encryption: str | None = None
) -> Convert | Skip:
    return plan_conversion(found, Preference(preferred), is_import=is_import, encryption=encryption)


def test_upload_is_never_converted() -> None:
    assert plan(DiskFormat.QCOW2, DiskFormat.RAW, is_import=False) == Skip(SkipReason.NOT_AN_IMPORT)


def test_nothing_is_converted_where_no_format_is_preferred_or_the_importer_says_so() -> None:
    assert plan(DiskFormat.QCOW2, None) == Skip(SkipReason.DISABLED)
    off = plan_conversion(DiskFormat.QCOW2, Preference(DiskFormat.RAW), is_import=True, is_off=True)
    assert off == Skip(SkipReason.DISABLED)


@pytest.mark.parametrize("found", sorted(set(DiskFormat) - {*DISKS, DiskFormat.OVA}))
def test_what_holds_no_disk_is_published_as_it_came(found: DiskFormat) -> None:
    assert plan(found, DiskFormat.RAW) == Skip(SkipReason.NOT_A_DISK)


@pytest.mark.parametrize("found", [DiskFormat.QCOW2, DiskFormat.DOCKER])
def test_what_is_kept_compressed_is_no_disk_yet(found: DiskFormat) -> None:
    preference = Preference(DiskFormat.RAW, is_docker_converted=True)
    assert plan_conversion(found, preference, is_import=True, is_compressed=True) == Skip(SkipReason.NOT_A_DISK)


@pytest.mark.parametrize("preferred", sorted(OUTPUT_FORMATS))
def test_image_in_the_preferred_format_is_left_alone_even_if_encrypted(preferred: DiskFormat) -> None:
    assert plan(preferred, preferred) == Skip(SkipReason.ALREADY_PREFERRED)
    assert plan(preferred, preferred, encryption="luks") == Skip(SkipReason.ALREADY_PREFERRED)


def test_encrypted_disk_cannot_be_converted() -> None:
    with pytest.raises(EncryptedImageError, match="luks"):
        plan(DiskFormat.QCOW2, DiskFormat.RAW, encryption="luks")


@pytest.mark.parametrize("found", DISKS)
@pytest.mark.parametrize("preferred", sorted(OUTPUT_FORMATS))
def test_source_format_is_always_given_to_qemu_img(found: DiskFormat, preferred: DiskFormat) -> None:
    arguments = qemu_img_arguments(SourceDisk(found), preferred, "/a,b")
    name = {DiskFormat.VHD: "vpc", DiskFormat.PLOOP: "parallels"}.get(found, str(found))
    assert arguments[:4] == ("convert", "-p", "-O", str(preferred))
    assert arguments[-2:] == ("--image-opts", f"driver={name},file.driver=file,file.filename=/a,,b")


def test_disk_inside_an_archive_is_read_in_its_place() -> None:
    arguments = qemu_img_arguments(SourceDisk(DiskFormat.VMDK, 1536, 65536), DiskFormat.QCOW2, "/a")
    assert arguments[-1] == (
        "driver=vmdk,file.driver=raw,file.offset=1536,file.size=65536,file.file.driver=file,file.file.filename=/a"
    )


def test_qemu_img_is_told_which_size_of_a_vhd_counts() -> None:
    source = SourceDisk(DiskFormat.VHD, vhd_size_rule=VhdSizeRule.GEOMETRY)
    options = qemu_img_arguments(source, DiskFormat.QCOW2, "/a")[-1]
    assert options == "driver=vpc,file.driver=file,file.filename=/a,force_size_calc=chs"


def test_raw_is_written_by_our_own_readers_and_all_else_by_qemu_img() -> None:
    assert plan(DiskFormat.VHD, DiskFormat.RAW) == Convert(DiskFormat.VHD, DiskFormat.RAW, Tool.READER)
    assert plan(DiskFormat.QCOW2, DiskFormat.VMDK) == Convert(DiskFormat.QCOW2, DiskFormat.VMDK, Tool.QEMU_IMG)


def test_vmdk_output_is_stream_optimized_and_qcow2_may_be_compressed() -> None:
    source = SourceDisk(DiskFormat.RAW)
    assert "subformat=streamOptimized" in qemu_img_arguments(source, DiskFormat.VMDK, "/a")
    assert "compression_type=zstd" in qemu_img_arguments(source, DiskFormat.QCOW2, "/a", Qcow2Compression.ZSTD)
    assert "-c" not in qemu_img_arguments(source, DiskFormat.QCOW2, "/a")


def test_docker_archive_becomes_a_disk_only_where_the_deployment_says_so() -> None:
    assert plan(DiskFormat.DOCKER, DiskFormat.RAW) == Skip(SkipReason.NOT_A_DISK)
    assert plan_conversion(
        DiskFormat.DOCKER, Preference(DiskFormat.QCOW2, is_docker_converted=True), is_import=True
    ) == Convert(DiskFormat.DOCKER, DiskFormat.RAW, Tool.ROOT_DISK)


def test_there_is_no_conversion_to_what_no_deployment_may_prefer() -> None:
    for found, output in itertools.product(DISKS, set(DiskFormat) - OUTPUT_FORMATS):
        with pytest.raises(InvalidFormatError):
            qemu_img_arguments(SourceDisk(found), output, "/a")


def blob(disk_format: DiskFormat, **facts: PropertyValue) -> Blob:
    return Blob(BlobRef("main", "key"), 1, {}, disk_format, 1, {key: Fact(value) for key, value in facts.items()})


def test_disk_of_an_appliance_is_where_its_inspection_found_it() -> None:
    appliance = blob(DiskFormat.OVA, ova_disk_format="vmdk", ova_disk_offset=1536, ova_disk_size_bytes=512)
    assert readable_disk(appliance) == SourceDisk(DiskFormat.VMDK, 1536, 512)


def test_encrypted_disk_is_read_only_where_it_is_the_content_itself() -> None:
    assert readable_disk(blob(DiskFormat.QCOW2, encryption="luks")) is None
    assert readable_disk(blob(DiskFormat.RAW, encryption="luks")) == SourceDisk(DiskFormat.RAW)
    assert readable_disk(blob(DiskFormat.ISO)) is None
