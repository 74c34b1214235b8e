"""Every rule has a sample that breaks it, and no sample is refused by a rule that nobody wrote down."""

from __future__ import annotations

from functools import cache

import pytest

from tintype.domain.errors import (
    AllocationRatioError,
    EmptyImageError,
    FormatMismatchError,
    RefusedContentError,
    VirtualSizeTooLargeError,
)
from tintype.domain.values import DiskFormat
from tintype.inspect.detection import format_of_head, format_of_tail
from tintype.inspect.registry import known_formats
from tintype.inspect.stream import HEAD_SIZE, TAIL_SIZE
from tintype.testing.hostile import HostileImage, hostile_images

OF_EVERY_FORMAT = {EmptyImageError, VirtualSizeTooLargeError, AllocationRatioError, FormatMismatchError}

DECLARED = {(disk_format, rule.error) for disk_format, entry in known_formats().items() for rule in entry.rules}


@cache
def broken_rules() -> frozenset[tuple[DiskFormat, type[RefusedContentError]]]:
    """Of each sample the format that its bytes are taken for, and how they are refused."""
    return frozenset((format_of(image), image.error) for image in hostile_images().values())


def format_of(image: HostileImage) -> DiskFormat:
    content = image.build()
    try:
        found = format_of_head(content[:HEAD_SIZE]) or format_of_tail(content[-TAIL_SIZE:])
    except FormatMismatchError:
        return DiskFormat.RAW
    is_bare = found.disk_format is DiskFormat.RAW
    return image.declared if is_bare and image.declared else found.disk_format


@pytest.mark.parametrize("disk_format", sorted(known_formats()))
def test_every_format_says_what_it_refuses_and_what_it_reads(disk_format: str) -> None:
    entry = next(entry for entry in known_formats().values() if entry.disk_format == disk_format)
    assert entry.rules
    assert len({spec.key for spec in entry.facts}) == len(entry.facts)
    assert all(spec.source and spec.meaning for spec in entry.facts)


def test_every_rule_has_a_sample_that_breaks_it() -> None:
    assert {f"{name}: {error.reason}" for name, error in DECLARED - broken_rules()} == set()


def test_no_sample_is_refused_by_a_rule_that_is_not_written_down() -> None:
    unwritten = {(name, error) for name, error in broken_rules() - DECLARED if error not in OF_EVERY_FORMAT}
    assert {f"{name}: {error.reason}" for name, error in unwritten} == set()
