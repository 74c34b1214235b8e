"""Images made by qemu-img: what we read of them, and that none is cut short unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.domain.errors import (
    FormatMismatchError,
    RefusedContentError,
    TruncatedError,
    UnsafeBackingFileError,
    UnsafeDataFileError,
    UnsafeExtentError,
)
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspection, Inspector
from tintype.testing.images import SUBFORMATS, make_disk, make_image, run_qemu_img

pytestmark = [
    pytest.mark.qemu,
]

DISK_SIZE = 8 << 20


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


def test_facts_of_compressed_qcow2(disk: Path, tmp_path: Path) -> None:
    facts = inspect(make_image(disk, "qcow2-zstd", tmp_path / "image")).facts
    assert facts["qcow2_compression_type"].value == "zstd"
    assert facts["qcow2_cluster_size_bytes"].value == 65536


def test_encrypted_qcow2_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_qemu_img(
        *("create", "-f", "qcow2", "--object", "secret,id=key,data=abcdefgh"),
        *("-o", "encrypt.format=aes,encrypt.key-secret=key", str(path), "1M"),
    )
    assert inspect(path).facts["encryption"].value == "aes"


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
    run_qemu_img(
        *("create", "-f", "luks", "--object", "secret,id=key,data=abcdefgh"),
        *("-o", "key-secret=key,iter-time=10", str(path), "1M"),
    )
    assert inspect(path).opinions == {"tintype": "raw", "oslo.utils": "luks"}
