"""Inspection, as if each format had been declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.fuzz.target import MAX_SEED_BYTES, ParserStumbledError, Target
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspector
from tintype.inspect.registry import known_formats
from tintype.testing.hostile import hostile_images
from tintype.testing.sound_boot import sound_boot_images

_MAX_VIRTUAL_SIZE = 1 << 50


def targets() -> Mapping[str, Target]:
    """One for each format."""
    return {f"inspect-{disk_format}": _format_target(disk_format) for disk_format in sorted(known_formats())}


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
        yield from (content for declared, content in sound_boot_images() if declared is disk_format)
        for image in hostile_images().values():
            if image.declared in (disk_format, None):
                content = image.build()
                if len(content) <= MAX_SEED_BYTES:
                    yield content

    return Target(run, seeds)
