"""Images with spoiled headers and tables that are let in: whoever can read one reads the disk that we read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.differential import Difference, changed, difference, seeds
from tintype.domain.values import DiskFormat
from tintype.testing.handmade import fixed_vhd, vhd
from tintype.testing.images import SUBFORMATS
from tintype.testing.mutable_disks import MutableDisk, mutable_disks

pytestmark = pytest.mark.qemu

CHANGES = 4
"""Of each image; many more were tried when this was written (``python -m tests.fuzz.differential SECONDS``)."""

NAMES = [*mutable_disks(), *(f"qemu-{name}" for name in SUBFORMATS if name != "raw")]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MutableDisk]:
    return dict(seeds(tmp_path_factory.mktemp("seeds")))


@pytest.mark.parametrize("name", NAMES)
def test_spoiled_image_that_is_let_in_holds_one_disk(name: str, images: dict[str, MutableDisk], tmp_path: Path) -> None:
    for number in range(CHANGES):
        path = tmp_path / f"image-{number}"
        path.write_bytes(changed(images[name], random.Random(f"{name}/{number}")))
        found = difference(path, images[name].disk_format)
        assert found is None or not found.is_silent, (number, found)


@pytest.mark.parametrize("cylinders", [0, 10, 60])
def test_vhd_of_a_program_that_nobody_knows_is_as_large_as_it_says(cylinders: int, tmp_path: Path) -> None:
    for number, image in enumerate((vhd(cylinders=cylinders), fixed_vhd(2 << 20, cylinders=cylinders))):
        path = tmp_path / str(number)
        path.write_bytes(image)
        assert difference(path, DiskFormat.VHD) is None


def test_difference_is_silent_where_both_read_a_disk() -> None:
    assert Difference("512 aa", "512 bb").is_silent
    assert not Difference("refused: it is damaged", "512 bb").is_silent
    assert not Difference("512 aa", "failed: Invalid argument").is_silent
