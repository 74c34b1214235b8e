"""Which of a VHD's two sizes is the disk's."""

from __future__ import annotations

import pytest

from tintype.domain.errors import MalformedImageError
from tintype.inspect.tables.vhd_geometry import has_geometry_size, vhd_disk_size

GEOMETRY = 100 << 16 | 16 << 8 | 63
GEOMETRY_SIZE = 100 * 16 * 63 * 512
MAX_GEOMETRY = 65535 << 16 | 16 << 8 | 255


@pytest.mark.parametrize("creator", [b"vpc ", b"qemu"])
def test_guests_of_virtual_pc_see_the_geometry(creator: bytes) -> None:
    assert vhd_disk_size(creator, GEOMETRY, GEOMETRY_SIZE + 512) == GEOMETRY_SIZE


@pytest.mark.parametrize("creator", [b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS", b"wa\0\0", b"vbox", b"\0\0\0\0"])
def test_all_others_see_the_size(creator: bytes) -> None:
    assert vhd_disk_size(creator, GEOMETRY, GEOMETRY_SIZE + 512) == GEOMETRY_SIZE + 512
    assert vhd_disk_size(creator, 0, 512) == 512


def test_geometry_that_can_say_no_more_does_not_count() -> None:
    assert not has_geometry_size(b"vpc ", MAX_GEOMETRY)
    assert vhd_disk_size(b"vpc ", MAX_GEOMETRY, 200 << 30) == 200 << 30


@pytest.mark.parametrize("geometry", [0, GEOMETRY, 1 << 16 | 1 << 8])
def test_geometry_of_no_disk_or_beyond_the_disk_is_refused(geometry: int) -> None:
    with pytest.raises(MalformedImageError):
        vhd_disk_size(b"qemu", geometry, GEOMETRY_SIZE - 512)
