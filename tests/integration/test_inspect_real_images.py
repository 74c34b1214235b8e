"""Images made by qemu-img: what we read of them, and that none is cut short unnoticed."""

from __future__ import annotations

import importlib
import json
import struct
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from tintype.domain.errors import (
    FormatMismatchError,
    RefusedContentError,
    TruncatedError,
    UnsafeBackingFileError,
    UnsafeDataFileError,
    UnsafeExtentError,
)
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspection, Inspector
from tintype.testing.handmade import qcow2, qcow2_extension
from tintype.testing.images import QEMU_IMG, SUBFORMATS, make_disk, make_image, run_qemu_img

pytestmark = [
    pytest.mark.qemu,
]

DISK_SIZE = 8 << 20
QEMU_IN_VDI = "QEMU VM Virtual Disk Image"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("disk") / "disk.raw", size_bytes=DISK_SIZE)


def inspect(path: Path, declared: DiskFormat | None = None, size: int | None = None) -> Inspection:
    inspector = Inspector(declared)
    content = path.read_bytes()[:size]
    for offset in range(0, len(content), 1 << 20):
        inspector.feed(content[offset : offset + (1 << 20)])
    return inspector.finish()


@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_every_kind_of_image_is_found_with_its_disk_size(subformat: str, disk: Path, tmp_path: Path) -> None:
    found = inspect(make_image(disk, subformat, tmp_path / "image"))
    assert (found.disk_format, found.virtual_size) == (SUBFORMATS[subformat][0], DISK_SIZE)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.85])
@pytest.mark.parametrize("subformat", sorted(SUBFORMATS.keys() - {"raw"}))
def test_image_that_is_cut_is_not_accepted(subformat: str, share: float, disk: Path, tmp_path: Path) -> None:
    path = make_image(disk, subformat, tmp_path / "image")
    declared = SUBFORMATS[subformat][0]
    # Without its footer nothing tells a fixed VHD from a raw disk.
    expected: type[RefusedContentError] = FormatMismatchError if subformat == "vhd-fixed" else TruncatedError
    with pytest.raises(expected):
        inspect(path, declared, size=int(path.stat().st_size * share))


def info(path: Path) -> dict[str, Any]:
    """What qemu-img says of a file of our own making, which it therefore may open."""
    output = subprocess.run(
        [str(QEMU_IMG), "info", "--output", "json", str(path)], check=True, capture_output=True, timeout=60
    ).stdout
    return cast("dict[str, Any]", json.loads(output))


def values(inspection: Inspection) -> dict[str, PropertyValue]:
    return {key: fact.value for key, fact in inspection.facts.items()}


QCOW2_OPTIONS = {
    "v2": "compat=0.10",
    "v3": "compat=1.1",
    "lazy": "lazy_refcounts=on",
    "zstd": "compression_type=zstd",
    "extended L2": "extended_l2=on,cluster_size=128k",
    "smallest clusters": "cluster_size=512",
    "largest clusters": "cluster_size=2M",
    "narrow refcounts": "refcount_bits=1",
    "wide refcounts": "refcount_bits=64",
    "preallocated metadata": "preallocation=metadata",
    "preallocated": "preallocation=full",
    "preallocated subclusters": "preallocation=metadata,extended_l2=on",
}


@pytest.mark.parametrize("kind", QCOW2_OPTIONS)
def test_facts_of_qcow2_are_those_that_qemu_img_tells(kind: str, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", QCOW2_OPTIONS[kind], str(disk), str(path))
    found, told = inspect(path), info(path)
    facts, data = values(found), told["format-specific"]["data"]
    assert found.virtual_size == told["virtual-size"]
    assert facts["qcow2_cluster_size_bytes"] == told["cluster-size"]
    assert facts["qcow2_version"] == {"0.10": 2, "1.1": 3}[data["compat"]]
    assert facts["qcow2_compression_type"] == data["compression-type"]
    assert facts["qcow2_refcount_bits"] == data["refcount-bits"]
    assert facts["qcow2_lazy_refcounts"] == data.get("lazy-refcounts", False)
    assert facts["qcow2_extended_l2"] == data.get("extended-l2", False)
    assert facts["qcow2_dirty"] == told["dirty-flag"]


def test_encrypted_qcow2_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img(
        *("create", "-f", "qcow2", "--object", "secret,id=key,data=abcdefgh"),
        *("-o", "encrypt.format=aes,encrypt.key-secret=key", str(path), "1M"),
    )
    assert values(inspect(path))["encryption"] == info(path)["format-specific"]["data"]["encrypt"]["format"] == "aes"


def luks_header(path: Path, version: int, uuid: str) -> bytes:
    """A LUKS header made by cryptsetup, with its key slots."""
    path.write_bytes(bytes(20 << 20))
    command = ["cryptsetup", "luksFormat", "--batch-mode", f"--type=luks{version}", f"--uuid={uuid}"]
    subprocess.run(
        [*command, "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", str(path), "-"],
        env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}, input=b"abcdefgh", check=True, timeout=60,
    )  # fmt: skip
    return path.read_bytes()[: 2 << 20]


UUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


def test_luks_inside_of_qcow2_is_told(tmp_path: Path) -> None:
    # qemu-img measures for seconds how slow a key shall be, and fails where the machine is busy; cryptsetup does not.
    header = luks_header(tmp_path / "luks", 1, UUID)
    pointer = qcow2_extension(0x0537BE77, struct.pack(">QQ", 6 * 4096, len(header)))
    path = tmp_path / "image"
    path.write_bytes(qcow2(crypt_method=2, extensions=pointer, more=header))
    facts, told = values(inspect(path)), info(path)["format-specific"]["data"]["encrypt"]
    assert (facts["encryption"], facts["luks_version"]) == ("luks", 1)
    assert (told["format"], told["uuid"]) == ("luks", UUID)


@pytest.mark.parametrize("version", [1, 2])
def test_luks_disk_is_told_with_its_version(version: int, tmp_path: Path) -> None:
    path = tmp_path / "image"
    luks_header(path, version, UUID)
    found = inspect(path, DiskFormat.RAW)
    facts = values(found)
    assert (found.disk_format, facts["encryption"], facts["luks_version"]) == (DiskFormat.RAW, "luks", version)
    assert facts["luks_uuid"] == UUID


def test_memory_of_a_saved_machine_is_told(disk: Path, tmp_path: Path) -> None:
    path = make_image(disk, "qcow2-v3", tmp_path / "image")
    run_qemu_img("snapshot", "-c", "before", str(path))
    facts = values(inspect(path))
    assert facts["qcow2_snapshots"] == len(info(path)["snapshots"]) == 1
    assert facts["qcow2_vm_state_size_bytes"] == info(path)["snapshots"][0]["vm-state-size"] == 0


VMDK_ADAPTERS = {"ide": "ide", "lsilogic": "lsiLogic", "buslogic": "busLogic", "legacyESX": None}


@pytest.mark.parametrize("adapter", VMDK_ADAPTERS)
@pytest.mark.parametrize("create_type", ["monolithicSparse", "streamOptimized"])
def test_facts_of_vmdk_are_as_a_compute_service_needs_them(
    create_type: str, adapter: str, disk: Path, tmp_path: Path
) -> None:
    path = tmp_path / "image.vmdk"
    options = f"subformat={create_type},adapter_type={adapter}"
    run_qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", options, str(disk), str(path))
    found, told = inspect(path), info(path)
    facts, data = values(found), told["format-specific"]["data"]
    assert found.virtual_size == told["virtual-size"]
    assert facts["vmdk_create_type"] == data["create-type"] == create_type
    assert int(str(facts["vmdk_content_id"]), 16) == data["cid"]
    assert facts["vmdk_grain_size_bytes"] == told["cluster-size"]
    assert facts["vmdk_compressed"] == data["extents"][0].get("compressed", False)
    assert facts["vmdk_adapter_type"] == adapter
    assert facts["vmware_disktype"] == {"monolithicSparse": "sparse"}.get(create_type, create_type)
    assert facts.get("vmware_adaptertype") == VMDK_ADAPTERS[adapter]
    assert facts["vmdk_stream_optimized"] == (create_type == "streamOptimized")
    assert str(facts["vmdk_geometry"]).count("/") == 2


@pytest.mark.parametrize("options", ["compat6=on", "hwversion=10", "toolsversion=11", "zeroed_grain=on"])
def test_vmdk_of_every_option_is_accepted(options: str, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    run_qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", options, str(disk), str(path))
    assert inspect(path, DiskFormat.VMDK).virtual_size == DISK_SIZE


BLOCK_FORMATS: dict[str, tuple[DiskFormat, str, str, dict[str, PropertyValue]]] = {
    "vdi": (DiskFormat.VDI, "vdi", "static=off", {"vdi_subtype": "dynamic", "vdi_block_size_bytes": 1 << 20}),
    "vdi static": (DiskFormat.VDI, "vdi", "static=on", {"vdi_subtype": "static", "vdi_creator": QEMU_IN_VDI}),
    "vpc": (DiskFormat.VHD, "vpc", "subformat=dynamic", {"vhd_subtype": "dynamic", "vhd_creator": "qemu"}),
    "vpc fixed": (DiskFormat.VHD, "vpc", "subformat=fixed", {"vhd_subtype": "fixed", "vhd_creator_host": "windows"}),
    "vpc of that size": (DiskFormat.VHD, "vpc", "force_size=on", {"vhd_creator": "qem2"}),
    "vpc fixed of that size": (DiskFormat.VHD, "vpc", "subformat=fixed,force_size=on", {"vhd_subtype": "fixed"}),
    "vhdx": (DiskFormat.VHDX, "vhdx", "subformat=dynamic", {"vhdx_subtype": "dynamic"}),
    "vhdx fixed": (DiskFormat.VHDX, "vhdx", "subformat=fixed", {"vhdx_logical_sector_size_bytes": 512}),
    "vhdx of small blocks": (DiskFormat.VHDX, "vhdx", "block_size=1M", {"vhdx_block_size_bytes": 1 << 20}),
    "parallels": (
        DiskFormat.PLOOP,
        "parallels",
        "cluster_size=1M",
        {"ploop_version": 2, "ploop_block_size_bytes": 1 << 20},
    ),
    "parallels of small clusters": (
        DiskFormat.PLOOP, "parallels", "cluster_size=64k", {"ploop_block_size_bytes": 1 << 16},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BLOCK_FORMATS)
def test_disks_of_blocks_are_read_as_qemu_img_reads_them(kind: str, disk: Path, tmp_path: Path) -> None:
    declared, qemu_format, options, expected = BLOCK_FORMATS[kind]
    path = tmp_path / "image"
    run_qemu_img("convert", "-f", "raw", "-O", qemu_format, "-o", options, str(disk), str(path))
    found, told = inspect(path, declared), info(path)
    facts = values(found)
    if "fixed" not in kind or declared is not DiskFormat.VHD:  # which qemu-img takes for raw
        assert (told["format"], told["virtual-size"]) == (qemu_format, found.virtual_size)
    block_sizes = {value for key, value in facts.items() if key.endswith("_block_size_bytes")}
    assert not told.get("cluster-size") or told["cluster-size"] in block_sizes
    assert facts.items() >= expected.items()


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_ploop_that_is_cut_is_not_accepted(share: float, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img("convert", "-f", "raw", "-O", "parallels", str(disk), str(path))
    with pytest.raises(TruncatedError):
        inspect(path, DiskFormat.PLOOP, size=int(path.stat().st_size * share))


def test_fixed_vhd_is_no_raw_disk(disk: Path, tmp_path: Path) -> None:
    path = make_image(disk, "vhd-fixed", tmp_path / "image")
    with pytest.raises(FormatMismatchError, match="declared as raw, but its bytes are vhd"):
        inspect(path, DiskFormat.RAW)


@pytest.mark.parametrize("qemu_format", ["qed", "qcow"])
def test_formats_that_only_a_probe_would_find_are_refused(qemu_format: str, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img("convert", "-f", "raw", "-O", qemu_format, str(disk), str(path))
    assert info(path)["format"] == qemu_format
    with pytest.raises(FormatMismatchError):
        inspect(path, DiskFormat.RAW)


@pytest.mark.parametrize("compress", ["gzip", "bzip2", "xz"])
def test_compressed_disk_is_no_raw_disk(compress: str, disk: Path) -> None:
    inspector = Inspector(DiskFormat.RAW)
    inspector.feed(
        importlib.import_module({"bzip2": "bz2", "xz": "lzma"}.get(compress, compress)).compress(b"\0" * 4096)
    )
    with pytest.raises(FormatMismatchError, match="container_format compressed"):
        inspector.finish()


def test_qcow2_with_snapshots_is_accepted(disk: Path, tmp_path: Path) -> None:
    path = make_image(disk, "qcow2-v3", tmp_path / "image")
    run_qemu_img("snapshot", "-c", "before", str(path))
    assert inspect(path).facts["qcow2_snapshots"].value == 1


@pytest.mark.parametrize("preallocation", ["off", "metadata", "falloc", "full"])
def test_preallocated_qcow2_is_not_taken_for_truncated(preallocation: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img("create", "-f", "qcow2", "-o", f"preallocation={preallocation}", str(path), "8M")
    assert inspect(path).virtual_size == DISK_SIZE


def test_overlay_is_refused(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img("create", "-f", "qcow2", "-b", str(disk), "-F", "raw", str(path))
    with pytest.raises(UnsafeBackingFileError):
        inspect(path)


def test_external_data_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", str(path), "1M")
    with pytest.raises(UnsafeDataFileError):
        inspect(path)


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_vmdk_of_several_files_is_refused(subformat: str, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    run_qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", str(disk), str(path))
    with pytest.raises(UnsafeExtentError):
        inspect(path)


SECOND_OPINIONS = {
    **{name: (str(disk_format), str(disk_format)) for name, (disk_format, _) in SUBFORMATS.items()},
    "raw": ("raw", "gpt"),  # the disk begins with a boot record
    "vhd-fixed": ("vhd", "gpt"),  # the same disk, and a footer
}


@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_two_programs_agree_on_every_kind_of_image(subformat: str, disk: Path, tmp_path: Path) -> None:
    opinions = inspect(make_image(disk, subformat, tmp_path / "image")).opinions
    assert opinions == dict(zip(("tintype", "oslo.utils"), SECOND_OPINIONS[subformat], strict=True))


def test_two_programs_agree_on_an_encrypted_disk(tmp_path: Path) -> None:
    path = tmp_path / "image"
    luks_header(path, 1, UUID)
    assert inspect(path).opinions == {"tintype": "raw", "oslo.utils": "luks"}
