"""What is fuzzed, and with which seeds: every parser that sees an attacker's bytes.

The invariant of each: a verdict, or a ``RefusedContentError`` that the parser meant; no other exception, no hang, and
no memory beyond bounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tintype.disks.opening import open_disk
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspector
from tintype.inspect.registry import known_formats
from tintype.testing.hostile import hostile_images
from tintype.testing.mutable_disks import MutableDisk, mutable_disks

MAX_SEED_BYTES = 1024 * 1024
_MAX_VIRTUAL_SIZE = 1 << 50
_MAX_EXTENTS = 50
_READ_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A function over bytes, and bytes to begin with."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]


class ParserStumbledError(Exception):
    """A parser met bytes that it had not thought of; users see a refusal, and we a defect."""


def inspect(declared: DiskFormat | None, content: bytes) -> None:
    """Inspect, in chunks whose size the content chooses."""
    chunk = (content[0] + 1) * 97 if content else 1
    inspector = Inspector(declared, max_virtual_size=_MAX_VIRTUAL_SIZE)
    try:
        for offset in range(0, len(content), chunk):
            inspector.feed(content[offset : offset + chunk])
        inspector.finish()
    except RefusedContentError as refusal:
        _require_meant(refusal)


def _require_meant(refusal: RefusedContentError) -> None:
    if "cannot be read (" in str(refusal) and refusal.__cause__ is not None:
        raise ParserStumbledError from refusal.__cause__


def _format_target(disk_format: DiskFormat) -> Target:
    def run(content: bytes) -> None:
        inspect(disk_format, content)

    def seeds() -> Iterator[bytes]:
        for image in hostile_images().values():
            if image.declared in (disk_format, None):
                content = image.build()
                if len(content) <= MAX_SEED_BYTES:
                    yield content

    return Target(run, seeds)


def read_disk(disk_format: DiskFormat, image: bytearray) -> None:
    """Read the begin of each of the disk's first extents."""
    with tempfile.NamedTemporaryFile() as file, suppress(RefusedContentError):
        file.write(image)
        file.flush()
        with open_disk(Path(file.name), disk_format) as disk:
            for extent in islice(disk.extents(), _MAX_EXTENTS):
                length = min(extent.length, _READ_SIZE)
                assert len(disk.read(extent.offset, length)) == length


def _disk_target(sound: MutableDisk) -> Target:
    """The bytes replace the headers and tables of a sound image."""

    def run(content: bytes) -> None:
        read_disk(sound.disk_format, sound.with_metadata(content))

    return Target(run, lambda: iter([sound.metadata()]))


def targets() -> Mapping[str, Target]:
    """All targets by name."""
    parsers = {f"inspect-{disk_format}": _format_target(disk_format) for disk_format in sorted(known_formats())}
    return parsers | {f"read-{name}": _disk_target(sound) for name, sound in mutable_disks().items()}
