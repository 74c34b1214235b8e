"""Every system that the fault suite breaks, by the name that the table has for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backends.cinder_store import CinderBackend
from tests.backends.file_stores import FileBackend, NfsBackend
from tests.backends.plain_backends import MemoryBackend
from tests.backends.rbd_store import RbdBackend
from tests.backends.s3_backend import ceph_s3_backend, swift_s3_backend
from tests.backends.store_backend import StoreBackend
from tests.backends.swift_store import SwiftBackend

Making = Callable[[pytest.FixtureRequest, Path], StoreBackend]


def _file(request: pytest.FixtureRequest, directory: Path) -> StoreBackend:
    request.getfixturevalue("private_mounts")
    return FileBackend(directory)


def _nfs(request: pytest.FixtureRequest, directory: Path) -> StoreBackend:
    request.getfixturevalue("private_mounts")
    return NfsBackend(directory)


def _s3_swift(request: pytest.FixtureRequest, directory: Path) -> StoreBackend:
    return swift_s3_backend(request.getfixturevalue("swift"))


def _s3_rgw(request: pytest.FixtureRequest, directory: Path) -> StoreBackend:
    return ceph_s3_backend(request.getfixturevalue("ceph"))


def _swift(request: pytest.FixtureRequest, directory: Path) -> StoreBackend:
    return SwiftBackend(request.getfixturevalue("swift"), directory)


def _rbd(request: pytest.FixtureRequest, directory: Path) -> StoreBackend:
    return RbdBackend(request.getfixturevalue("ceph"))


def _cinder(request: pytest.FixtureRequest, directory: Path) -> StoreBackend:
    return CinderBackend(request.getfixturevalue("cinder"), request.getfixturevalue("ceph"))


BACKENDS: tuple[tuple[str, Making, tuple[pytest.MarkDecorator, ...]], ...] = (
    ("memory", lambda request, directory: MemoryBackend(), ()),
    ("file", _file, (pytest.mark.mounts,)),
    ("nfs", _nfs, (pytest.mark.mounts,)),
    ("s3-swift", _s3_swift, (pytest.mark.swift,)),
    ("s3-rgw", _s3_rgw, (pytest.mark.ceph,)),
    ("swift", _swift, (pytest.mark.swift,)),
    ("rbd", _rbd, (pytest.mark.ceph,)),
    ("cinder", _cinder, (pytest.mark.cinder,)),
)
"""Name, making and marks of each; what a system needs to run is asked of the request's fixtures."""
