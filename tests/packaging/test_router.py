"""The router in front of the services lets every call of theirs through."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2

import tintype.api

ROOT = Path(__file__).parents[2]
API = Path(tintype.api.__file__).parent
MESSAGES = sorted(path.relative_to(ROOT) for path in API.rglob("*_pb2.py"))


def services() -> list[str]:
    """The full name of every service."""
    files: list[FileDescriptor] = [import_module(".".join(path.with_suffix("").parts)).DESCRIPTOR for path in MESSAGES]
    return [each.full_name for file in (*files, health_pb2.DESCRIPTOR) for each in file.services_by_name.values()]


@pytest.mark.parametrize("service", services())
def test_the_router_knows_every_service(service: str) -> None:
    routes = re.findall(r'location ~ "([^"]+)"', (ROOT / "deploy/router/nginx.conf").read_text())
    # PCRE names a group without Python's P.
    assert [route for route in routes if re.match(route.replace("(?<", "(?P<"), f"/{service}/Call")] != []


def test_the_router_of_other_tests_bounds_calls_as_the_real_one_does() -> None:
    """It has no TLS, and upstreams in place of names; limits, times and retries are the same."""
    told = re.compile(r"^\s+((?:client|keepalive|http2|grpc)_\w+ [^;{$]+);", re.MULTILINE)
    real, tests = (
        {line for line in told.findall((ROOT / path).read_text()) if not re.search(r"_path |_pass ", line)}
        for path in ("deploy/router/nginx.conf", "tests/backends/nginx.py")
    )
    assert len(tests) > 10
    assert tests <= real
