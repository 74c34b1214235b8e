"""Every system that the fault suite breaks, by the name that the table has for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backends.plain_backends import DirectoryBackend, MemoryBackend
from tests.backends.store_backend import StoreBackend
from tests.backends.swift_store import SwiftBackend

Making = Callable[[pytest.FixtureRequest, Path], StoreBackend]

BACKENDS: tuple[tuple[str, Making, tuple[pytest.MarkDecorator, ...]], ...] = (
    ("file", lambda request, directory: DirectoryBackend(directory), ()),
    (
        "swift",
        lambda request, directory: SwiftBackend(request.getfixturevalue("swift"), directory),
        (pytest.mark.swift,),
    ),
    ("memory", lambda request, directory: MemoryBackend(), ()),
)
"""Name, making and marks of each; what a system needs to run is asked of the request's fixtures."""
