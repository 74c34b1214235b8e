"""Every rule that a disk format declares has a hostile image, and no image is refused by one that is not declared."""

from __future__ import annotations

import pytest

from tintype.domain.errors import MalformedImageError, UnsafeExtentError
from tintype.domain.values import DiskFormat
from tintype.inspect.archives.ovf import parse_descriptor as parse_ovf
from tintype.inspect.registry import known_formats
from tintype.inspect.tables.vmdk_descriptor import parse_descriptor
from tintype.testing.handmade_archives import ONE_DISK, ovf
from tintype.testing.hostile import hostile_images

DISK_FORMATS = (
    DiskFormat.RAW, DiskFormat.QCOW2, DiskFormat.VMDK, DiskFormat.VDI, DiskFormat.VHD, DiskFormat.VHDX,
    DiskFormat.PLOOP,
)  # fmt: skip
CVES = {"CVE-2022-47951", "CVE-2024-32498", "CVE-2024-4467", "CVE-2024-40767"}


@pytest.mark.parametrize("disk_format", DISK_FORMATS)
def test_rules_and_hostile_images_are_of_the_same_errors(disk_format: DiskFormat) -> None:
    declared = {rule.error for rule in known_formats()[disk_format].rules}
    shown = {image.error for image in hostile_images().values() if image.declared is disk_format}
    assert declared == shown


def test_every_hole_that_inspection_closes_is_named() -> None:
    rules = [rule for disk_format in DISK_FORMATS for rule in known_formats()[disk_format].rules]
    assert {rule.cve for rule in rules if rule.cve} == CVES


@pytest.mark.parametrize("disk_format", DISK_FORMATS)
def test_keys_of_facts_are_declared_once(disk_format: DiskFormat) -> None:
    keys = [spec.key for spec in known_formats()[disk_format].facts]
    assert len(keys) == len(set(keys))


BLANKS = " " * 60_000


@pytest.mark.parametrize("line", [f'key={BLANKS}""x', f"{BLANKS}x", f'key="{BLANKS}"{BLANKS}x', f"key{BLANKS}x"])
def test_line_of_blanks_in_a_descriptor_is_read_once(line: str) -> None:
    """A pattern that went back over it would take days."""
    assert parse_descriptor(f"version=1\n{line}\n".encode()).values == {"version": "1"}


@pytest.mark.parametrize("line", [f'RW 1 SPARSE "a"{BLANKS}x', f"RW{BLANKS}x", f"RW 1{BLANKS}SPARSE{BLANKS}x"])
def test_line_of_blanks_in_an_extent_is_read_once(line: str) -> None:
    with pytest.raises(UnsafeExtentError):
        parse_descriptor(line.encode())


def test_unit_of_blanks_in_an_appliance_is_read_once() -> None:
    unit = ONE_DISK.replace("byte * 2^20", f"byte{' ' * 900_000}x")
    with pytest.raises(MalformedImageError, match="unit"):
        parse_ovf(ovf(disks=unit))
