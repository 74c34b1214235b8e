"""What is fuzzed, and with which seeds: every parser that sees an attacker's bytes.

The invariant of each: a verdict, or a ``RefusedContentError`` that the parser meant; no other exception, no hang, and
no memory beyond bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspector
from tintype.inspect.compression import DECOMPRESSIBLE
from tintype.inspect.decompression import PIECE_SIZE, Decompressor
from tintype.inspect.registry import known_formats
from tintype.testing.hostile import hostile_images
from tintype.testing.hostile_compressed import COMPRESSORS, FREE_SIZE, MAX_RATIO, MAX_SIZE, hostile_compressed

MAX_SEED_BYTES = 1024 * 1024
_MAX_VIRTUAL_SIZE = 1 << 50


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


def _decompression_target(kind: str) -> Target:
    def run(content: bytes) -> None:
        decompressor = Decompressor(kind, max_size=MAX_SIZE, max_ratio=MAX_RATIO, free_size=FREE_SIZE)
        chunk = (content[-1] + 1) * 97 if content else 1
        try:
            for offset in range(0, len(content), chunk):
                for piece in decompressor.feed(content[offset : offset + chunk]):
                    assert len(piece) <= PIECE_SIZE
            decompressor.finish()
        except RefusedContentError:
            return

    def seeds() -> Iterator[bytes]:
        yield COMPRESSORS[kind](b"a disk" * 99)
        for hostile in hostile_compressed().values():
            if hostile.kind == kind and len(content := hostile.build()) <= MAX_SEED_BYTES:
                yield content

    return Target(run, seeds)


def targets() -> Mapping[str, Target]:
    """All targets by name."""
    formats = {f"inspect-{disk_format}": _format_target(disk_format) for disk_format in sorted(known_formats())}
    return formats | {f"decompress-{kind}": _decompression_target(kind) for kind in sorted(DECOMPRESSIBLE)}
