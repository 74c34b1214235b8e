"""Decompression of what comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.fuzz.target import MAX_SEED_BYTES, Target
from tintype.domain.errors import RefusedContentError
from tintype.inspect.compression.decoders import PIECE_SIZE
from tintype.inspect.compression.decompressor import Decompressor
from tintype.inspect.compression.kinds import DECOMPRESSIBLE
from tintype.testing.hostile_compressed import COMPRESSORS, FREE_SIZE, MAX_RATIO, MAX_SIZE, hostile_compressed


def targets() -> Mapping[str, Target]:
    """One for each kind."""
    return {f"decompress-{kind}": _decompression_target(kind) for kind in sorted(DECOMPRESSIBLE)}


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
