"""Two opinions on every image, and that a disagreement is a refusal which names both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.domain.errors import FormatMismatchError, RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspector
from tintype.inspect.second_opinion import AGREEING, NONE, require_agreement, second_opinion
from tintype.inspect.stream import HEAD_SIZE
from tintype.testing.handmade import fixed_vhd, qcow2, stream_vmdk, vdi, vhd, vhdx, vmdk
from tintype.testing.handmade_iso import iso

BOOT_RECORD = bytes(510) + b"\x55\xaa"
LUKS = b"LUKS\xba\xbe\0\1" + bytes(4096)

ANSWERS: dict[str, tuple[Callable[[], bytes], DiskFormat, str]] = {
    "qcow2": (qcow2, DiskFormat.QCOW2, "qcow2"),
    "extended L2 qcow2": (lambda: qcow2(incompatible=16, cluster_bits=16), DiskFormat.QCOW2, "qcow2"),
    "vmdk": (vmdk, DiskFormat.VMDK, "vmdk"),
    "streamOptimized vmdk": (stream_vmdk, DiskFormat.VMDK, "vmdk"),
    "vdi": (vdi, DiskFormat.VDI, "vdi"),
    "dynamic vhd": (vhd, DiskFormat.VHD, "vhd"),
    "fixed vhd": (fixed_vhd, DiskFormat.VHD, "raw"),
    "vhdx": (vhdx, DiskFormat.VHDX, "vhdx"),
    "iso": (iso, DiskFormat.ISO, "iso"),
    "hybrid iso": (lambda: iso(is_hybrid=True), DiskFormat.ISO, "gpt+iso"),
    "raw": (lambda: b"\xda" * 4096, DiskFormat.RAW, "raw"),
    "raw with a boot record": (lambda: BOOT_RECORD + bytes(4096), DiskFormat.RAW, "gpt"),
    "raw, LUKS": (lambda: LUKS, DiskFormat.RAW, "luks"),
    "text": (lambda: b"text " * 200 + b"\xff" * 4096, DiskFormat.RAW, NONE),
}


def test_table_has_a_row_for_every_format() -> None:
    assert AGREEING.keys() == set(DiskFormat)


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_is_as_the_table_has_it(name: str) -> None:
    build, found, answer = ANSWERS[name]
    assert second_opinion(build()[:HEAD_SIZE]) == answer
    require_agreement(found, answer)


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - {"extended L2 qcow2"}))
def test_both_opinions_are_told(name: str) -> None:
    build, found, answer = ANSWERS[name]
    inspector = Inspector(None)
    inspector.feed(build())
    assert inspector.finish().opinions == {"tintype": str(found), "oslo.utils": answer} == inspector.opinions


def test_header_that_a_second_program_alone_finds_is_refused_with_both_opinions() -> None:
    content = b'createType="monolithicSparse"\n' + b"# a text that QEMU would not take for a disk\n" * 100
    inspector = Inspector(DiskFormat.RAW)
    inspector.feed(content)
    with pytest.raises(FormatMismatchError, match=r"tintype says raw, oslo\.utils says vmdk"):
        inspector.finish()


def test_disk_behind_a_header_of_its_own_and_a_boot_record_is_refused_as_soon_as_the_head_has_come() -> None:
    content = bytearray(qcow2() + bytes(HEAD_SIZE))
    content[510:512] = b"\x55\xaa"
    inspector = Inspector(None)
    with pytest.raises(FormatMismatchError, match=r"tintype says qcow2, oslo\.utils says gpt\+qcow2"):
        inspector.feed(bytes(content))


def test_opinions_on_a_refused_image_are_told() -> None:
    inspector = Inspector(DiskFormat.RAW)
    with pytest.raises(RefusedContentError):
        inspector.feed(vdi().ljust(HEAD_SIZE, b"\0"))
    assert inspector.opinions == {"tintype": "vdi", "oslo.utils": "vdi"}


@pytest.mark.parametrize("found", [found for found in DiskFormat if found is not DiskFormat.RAW])
def test_program_that_stumbles_does_not_vouch_for_a_format_that_it_knows(found: DiskFormat) -> None:
    known = {DiskFormat.QCOW2, DiskFormat.VMDK, DiskFormat.VDI, DiskFormat.VHDX, DiskFormat.ISO}
    if found in known:
        with pytest.raises(FormatMismatchError, match=r"oslo\.utils says none"):
            require_agreement(found, NONE)
    else:
        require_agreement(found, NONE)


@given(
    magic=st.sampled_from([b"", b"QFI\xfb", b"KDMV\1\0\0\0", b"vhdxfile", b"conectix", b"LUKS\xba\xbe", b"a" * 600]),
    noise=st.binary(max_size=3000),
    tables=st.binary(max_size=200),
)
def test_any_bytes_lead_to_an_answer(magic: bytes, noise: bytes, tables: bytes) -> None:
    head = (magic + noise).ljust(192 * 1024, b"\0") + b"regi" + tables
    for content in (head, magic + noise):
        assert second_opinion(content)


def test_library_is_not_imported_until_an_image_is_inspected() -> None:
    code = "import sys, tintype.inspect, tintype.cli.app; sys.exit('oslo_utils' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
