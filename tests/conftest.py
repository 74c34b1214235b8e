"""For all tests: which examples are tried, and servers for all that do not harm them, or for one that does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings

from tests.backends import shared_servers
from tests.backends.ceph import Ceph, ceph_cluster
from tests.backends.cinder import Cinder, cinder_service
from tests.backends.faulty_filesystem import FaultyShare
from tests.backends.keystone_barbican import Site, keystone_barbican
from tests.backends.private_mounts import leave_the_mount_namespace
from tests.backends.shared_servers import RunningNats
from tests.backends.swift import SwiftCluster, swift_cluster
from tintype.adapters.nats.server import NatsServer
from tintype.runtime.child_process import start_child

# The same examples in every run, and none too slow on a busy machine: to look for new ones is what `make fuzz` is for.
settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Decide where NATS and PostgreSQL come from, before other processes inherit it."""
    shared_servers.decide(os.environ)


def pytest_report_header() -> str:
    """Say where they come from."""
    return shared_servers.header()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNats]:
    """A server that no test harms."""
    if shared_servers.in_containers():
        with shared_servers.nats_container() as running:
            yield running
        return
    server = NatsServer(tmp_path_factory.mktemp("nats"), start_child)
    await server.start()
    yield RunningNats(server.url)
    await server.stop()


@pytest_asyncio.fixture
async def own_nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server to freeze and to kill: always a process of this machine."""
    server = NatsServer(tmp_path / "nats", start_child)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
def key_manager() -> Iterator[Site]:
    """A Keystone and a Barbican; whoever stops one of them starts it again."""
    with keystone_barbican() as site:
        yield site


@pytest.fixture(scope="session")
def swift() -> Iterator[SwiftCluster]:
    """A Swift, which speaks S3 as well; whoever stops a server of it starts that again."""
    with swift_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """A Ceph; whoever freezes, fills or kills a part of it mends it again."""
    with ceph_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cinder(ceph: Ceph) -> Iterator[Cinder]:
    """A Cinder whose volumes are in that Ceph; whoever stops it starts it again."""
    with cinder_service(ceph) as service:
        yield service


@pytest.fixture(scope="session")
def private_mounts() -> None:
    """Mounts are seen by these tests alone, and vanish with them."""
    leave_the_mount_namespace()


@pytest.fixture(scope="session")
def served_share(private_mounts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyShare]:
    """A mounted share, for tests that break nothing; each takes a directory of its own on it."""
    share = FaultyShare(tmp_path_factory.mktemp("share"))
    share.mount()
    yield share
    share.aclose()
