"""Every hostile image is refused, with its own reason, however it is cut into chunks."""

from __future__ import annotations

import pytest

from tintype.domain.errors import MalformedImageError, RefusedContentError
from tintype.inspect import Inspection
from tintype.testing.hostile import HostileImage, hostile_images


def inspect(image: HostileImage, chunk_size: int) -> Inspection:
    content = image.build()
    inspector = image.inspector()
    for offset in range(0, len(content), chunk_size):
        inspector.feed(content[offset : offset + chunk_size])
    return inspector.finish()


@pytest.mark.parametrize("chunk_size", [1 << 20, 4093])
@pytest.mark.parametrize("name", hostile_images())
def test_hostile_image_is_refused_for_its_own_reason(name: str, chunk_size: int) -> None:
    image = hostile_images()[name]
    with pytest.raises(image.error) as refusal:
        inspect(image, chunk_size)
    assert type(refusal.value) is image.error
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("name", hostile_images())
def test_no_refusal_is_a_parser_that_stumbled(name: str) -> None:
    with pytest.raises(RefusedContentError) as refusal:
        inspect(hostile_images()[name], 1 << 20)
    assert not (isinstance(refusal.value, MalformedImageError) and "cannot be read (" in str(refusal.value))


def test_there_is_a_hostile_image_for_every_way_in_which_bytes_are_unsafe() -> None:
    reasons = {image.error.reason for image in hostile_images().values()}
    assert reasons >= {
        "UNSAFE_BACKING_FILE", "UNSAFE_DATA_FILE", "UNSAFE_EXTENT", "DIFFERENCING_DISK", "FORMAT_MISMATCH", "TRUNCATED",
        "MALFORMED_IMAGE", "VIRTUAL_SIZE_TOO_LARGE", "EMPTY_IMAGE", "ALLOCATION_RATIO", "DECOMPRESSION_BOMB",
        "UNSUPPORTED_IMAGE",
    }  # fmt: skip
