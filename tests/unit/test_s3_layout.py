"""What the S3 store's objects are called and hold, and how bytes are divided into parts."""

from __future__ import annotations

import json

import pytest

from tintype.adapters.s3.layout import Layout, Marker, new_write_id
from tintype.adapters.s3.parts import MAX_PARTS, MIB, MIN_PART, copied_ranges, part_size
from tintype.adapters.s3.settings import S3StoreSettings
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import BlobDamagedError

TIB = 1024**4
KEY = BlobKey.parse("6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source")
WRITE = "0" * 32


def test_ten_thousand_parts_reach_the_largest_object() -> None:
    assert sum(part_size(number, 16 * MIB) for number in range(1, MAX_PARTS + 1)) >= 5 * TIB


@pytest.mark.parametrize("size", [MIN_PART, 256 * MIB, 256 * MIB + 1, 512 * MIB + MIN_PART, 3 * TIB + 1, 5 * TIB])
def test_copied_parts_are_gapless_and_none_is_too_small(size: int) -> None:
    ranges = list(copied_ranges(size))
    assert len(ranges) <= MAX_PARTS
    assert [first for first, _ in ranges] == [0, *[last + 1 for _, last in ranges[:-1]]]
    assert ranges[-1][1] == size - 1
    assert all(last - first + 1 >= MIN_PART for first, last in ranges)


def test_a_marker_is_read_as_it_was_written() -> None:
    marker = Marker(new_write_id(), 5, {"sha256": "00"}, (new_write_id(),))
    assert Marker.decode(marker.encode()) == marker


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"write": "../../secret"},
        {"write": WRITE + "\n"},
        {"write": None},
        {"size": -1},
        {"size": True},
        {"size": 10**30},
        {"digests": []},
        {"digests": {"sha256": 1}},
        {"retired": ["x"]},
        {"retired": None},
    ],
)
def test_a_marker_that_another_wrote_is_damage(change: dict[str, object]) -> None:
    sound = json.loads(Marker(WRITE, 5).encode())
    with pytest.raises(BlobDamagedError):
        Marker.decode(json.dumps(sound | change).encode())


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"1", b"[" * 60_000, b"{}"])
def test_what_is_no_marker_is_damage(data: bytes) -> None:
    with pytest.raises(BlobDamagedError):
        Marker.decode(data)


def test_names_of_others_are_not_taken_for_ours() -> None:
    layout = Layout("images/")
    assert layout.parse("data", layout.data(KEY, WRITE)) == (KEY, WRITE)
    assert layout.parse("blobs", layout.marker(KEY)) == (KEY, "")
    for name in (f"images/data/{KEY}", f"images/data/{KEY}/x", f"data/{KEY}/{WRITE}", f"images/blobs/../{KEY}"):
        assert layout.parse("data", name) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "Not/A/Bucket"},
        {"prefix": "../x"},
        {"prefix": "x/"},
        {"endpoint_url": "ftp://host"},
        {"endpoint_url": "http://user:password@host"},
        {"access_key_id": "a"},
        {"secret_access_key": "s"},
        {"access_key_id": "a", "secret_access_key": "s", "secret_access_key_file": "/x"},
        {"part_size_mib": 4},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        S3StoreSettings.model_validate({"type": "s3", "bucket": "images"} | wrong)


def test_a_secret_is_not_shown() -> None:
    settings = S3StoreSettings.model_validate(
        {"type": "s3", "bucket": "images", "access_key_id": "a", "secret_access_key": "hidden"}
    )
    assert "hidden" not in f"{settings!r} {settings} {settings.model_dump_json()}"
