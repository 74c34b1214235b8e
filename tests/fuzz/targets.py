"""What is fuzzed: every parser that sees an attacker's bytes.

The invariant of each: a verdict, or a ``RefusedContentError`` that the parser meant; no other exception, no hang, and
no memory beyond bounds.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import archives, attestations, backups, compression, contents, disks, formats, trust
from tests.fuzz.target import Target


def targets() -> Mapping[str, Target]:
    """All targets by name."""
    return {
        **formats.targets(),
        **compression.targets(),
        **disks.targets(),
        **contents.targets(),
        **archives.targets(),
        **attestations.targets(),
        **trust.targets(),
        **backups.targets(),
    }
