"""What is accepted, and as what: the table in ``tintype.inspect.detection``, row by row."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest

from tintype.domain.errors import FormatMismatchError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspection, Inspector, encryption_of
from tintype.testing.handmade import fixed_vhd, ploop, qcow2, stream_vmdk, vdi, vhd, vhdx, vmdk
from tintype.testing.handmade_iso import iso

MIB = 1 << 20

WELL_FORMED: dict[str, tuple[DiskFormat, int | None, Callable[[], bytes]]] = {
    "raw": (DiskFormat.RAW, 3000, lambda: b"\xda" * 3000),
    "one byte": (DiskFormat.RAW, 1, lambda: b"\0"),
    "qcow2": (DiskFormat.QCOW2, MIB, qcow2),
    "vmdk": (DiskFormat.VMDK, MIB, vmdk),
    "streamOptimized vmdk": (DiskFormat.VMDK, MIB, stream_vmdk),
    "vdi": (DiskFormat.VDI, 2 * MIB, vdi),
    "vhd": (DiskFormat.VHD, 2 * MIB, vhd),
    "fixed vhd": (DiskFormat.VHD, MIB, fixed_vhd),
    "vhdx": (DiskFormat.VHDX, 4 * MIB, vhdx),
    "ploop": (DiskFormat.PLOOP, 2048, ploop),
    "older ploop": (DiskFormat.PLOOP, 2048, lambda: ploop(magic=b"WithoutFreeSpace", entries=(2, 0))),
    "iso": (DiskFormat.ISO, None, iso),
    "hybrid iso": (DiskFormat.ISO, None, lambda: iso(is_hybrid=True)),
}


def inspect(content: bytes, declared: DiskFormat | None = None, chunk_size: int = MIB) -> Inspection:
    inspector = Inspector(declared)
    for offset in range(0, len(content), chunk_size):
        inspector.feed(memoryview(content)[offset : offset + chunk_size])
    return inspector.finish()


@pytest.mark.parametrize("chunk_size", [MIB, 65_537, 997])
@pytest.mark.parametrize("name", WELL_FORMED)
def test_format_is_found_however_the_bytes_are_cut(name: str, chunk_size: int) -> None:
    disk_format, virtual_size, build = WELL_FORMED[name]
    found = inspect(build(), chunk_size=chunk_size)
    assert (found.disk_format, found.virtual_size) == (disk_format, virtual_size)
    assert found == inspect(build(), declared=disk_format)


@pytest.mark.parametrize("declared", [DiskFormat.QCOW2, DiskFormat.VMDK, DiskFormat.VHD, DiskFormat.ISO])
@pytest.mark.parametrize("name", WELL_FORMED)
def test_declared_format_must_be_the_one_found(name: str, declared: DiskFormat) -> None:
    disk_format, _, build = WELL_FORMED[name]
    if declared is disk_format:
        assert inspect(build(), declared).disk_format is declared
        return
    with pytest.raises(FormatMismatchError) as refusal:
        inspect(build(), declared)
    assert f"declared as {declared}" in str(refusal.value)
    assert str(disk_format) in str(refusal.value)


def test_a_compressed_file_is_told_as_such_whatever_was_declared() -> None:
    with pytest.raises(FormatMismatchError, match=r"declared as qcow2, but its bytes are compressed \(gzip\)"):
        inspect(gzip.compress(bytes(4096)), DiskFormat.QCOW2)


def test_hybrid_iso_may_be_declared_raw_since_it_boots_as_a_disk() -> None:
    content = iso(is_hybrid=True)
    found = inspect(content, DiskFormat.RAW)
    assert (found.disk_format, found.virtual_size) == (DiskFormat.RAW, len(content))
    assert found.facts["iso_boot_record"].value == "mbr"


def test_iso_without_boot_sector_is_no_raw_disk() -> None:
    with pytest.raises(FormatMismatchError, match="declared as raw, but its bytes are iso"):
        inspect(iso(), DiskFormat.RAW)


def test_gpt_disk_is_raw() -> None:
    content = bytes(510) + b"\x55\xaa" + b"EFI PART" + bytes(4096)
    assert inspect(content, DiskFormat.RAW).facts["boot_record"].value == "gpt"


@pytest.mark.parametrize("declared", [DiskFormat.AKI, DiskFormat.ARI, DiskFormat.AMI])
@pytest.mark.parametrize("content", [b"\xda" * 4096, b"\0", fixed_vhd()], ids=["noise", "zero", "fixed vhd"])
def test_declaration_does_not_stand_on_its_own(declared: DiskFormat, content: bytes) -> None:
    with pytest.raises(FormatMismatchError):
        inspect(content, declared)


def test_header_counts_more_than_a_footer() -> None:
    assert inspect(qcow2() + fixed_vhd(512)).disk_format is DiskFormat.QCOW2


def test_fixed_vhd_is_found_by_its_footer_whatever_its_disk_begins_with() -> None:
    disk = bytes(510) + b"\x55\xaa" + bytes(MIB - 512)
    assert inspect(disk + fixed_vhd()[-512:], DiskFormat.VHD).facts["vhd_subtype"].value == "fixed"


def test_compressed_bytes_are_no_disk() -> None:
    for declared in (DiskFormat.RAW, None):
        with pytest.raises(FormatMismatchError, match="container_format compressed"):
            inspect(b"\x1f\x8b\x08" + bytes(4096), declared)


def test_qcow2_whose_data_looks_like_an_iso_is_qcow2() -> None:
    content = qcow2() + bytes(32 * 1024)
    content = content[: 32 * 1024 + 1] + b"CD001" + content[32 * 1024 + 6 :]
    assert inspect(content).disk_format is DiskFormat.QCOW2


def test_encrypted_disk_is_told_and_not_refused() -> None:
    assert encryption_of(inspect(qcow2(crypt_method=2)).facts) == "luks"
    for version in (1, 2):
        facts = inspect(b"LUKS\xba\xbe" + version.to_bytes(2, "big") + bytes(4096)).facts
        assert (encryption_of(facts), facts["luks_version"].value) == ("luks", version)
    assert "encryption" not in inspect(qcow2()).facts
