"""What is converted, what is skipped and why, and what qemu-img is told."""

from __future__ import annotations

import itertools

import pytest

from services.converter.plan import OUTPUT_FORMATS, Convert, Skip, convert_arguments, plan_conversion
from tintype.domain.errors import EncryptedImageError, InvalidFormatError
from tintype.domain.events import SkipReason
from tintype.domain.values import DiskFormat

DISKS = (DiskFormat.RAW, DiskFormat.QCOW2, DiskFormat.VMDK, DiskFormat.VDI, DiskFormat.VHD, DiskFormat.VHDX)


def plan(
    found: DiskFormat, preferred: DiskFormat | None, *, is_import: bool = True, encryption: str | None = None
) -> Convert | Skip:
    return plan_conversion(found, preferred, is_import=is_import, encryption=encryption)


def test_upload_is_never_converted() -> None:
    assert plan(DiskFormat.QCOW2, DiskFormat.RAW, is_import=False) == Skip(SkipReason.NOT_AN_IMPORT)


def test_nothing_is_converted_where_no_format_is_preferred() -> None:
    assert plan(DiskFormat.QCOW2, None) == Skip(SkipReason.DISABLED)


@pytest.mark.parametrize("found", sorted(set(DiskFormat) - set(DISKS)))
def test_what_holds_no_disk_is_published_as_it_came(found: DiskFormat) -> None:
    assert plan(found, DiskFormat.RAW) == Skip(SkipReason.NOT_A_DISK)


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
    arguments = convert_arguments(found, preferred)
    qemu_name = "vpc" if found is DiskFormat.VHD else str(found)
    assert arguments[:6] == ("convert", "-p", "-f", qemu_name, "-O", str(preferred))


def test_vhd_to_raw_runs_in_parallel_and_vmdk_output_is_stream_optimized() -> None:
    assert plan(DiskFormat.VHD, DiskFormat.RAW) == Convert(
        DiskFormat.VHD, DiskFormat.RAW, ("convert", "-p", "-f", "vpc", "-O", "raw", "-W", "-m", "8")
    )
    assert plan(DiskFormat.QCOW2, DiskFormat.VMDK) == Convert(
        DiskFormat.QCOW2,
        DiskFormat.VMDK,
        ("convert", "-p", "-f", "qcow2", "-O", "vmdk", "-o", "subformat=streamOptimized"),
    )


def test_there_is_no_conversion_to_what_no_deployment_may_prefer() -> None:
    for found, output in itertools.product(DISKS, set(DiskFormat) - OUTPUT_FORMATS):
        with pytest.raises(InvalidFormatError):
            convert_arguments(found, output)
