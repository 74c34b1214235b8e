"""Every system that the fault suite breaks, by the name that the table has for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backends.plain_backends import DirectoryBackend, MemoryBackend
from tests.backends.store_backend import StoreBackend

Making = Callable[[pytest.FixtureRequest, Path], StoreBackend]

BACKENDS: tuple[tuple[str, Making, tuple[pytest.MarkDecorator, ...]], ...] = (
    ("file", lambda request, directory: DirectoryBackend(directory), ()),
    ("memory", lambda request, directory: MemoryBackend(), ()),
)
"""Name, making and marks of each; what a system needs to run is asked of the request's fixtures."""
