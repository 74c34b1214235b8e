"""Asks the probes of Kubernetes manifests as a kubelet does, of pods whose addresses are known."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.packaging.manifests import Object

TIMEOUT_S = 10.0

Execute = Callable[..., bool]
"""Runs a command in the container; whether it ended well."""


def succeeds(probe: Object, container: Object, address: str, execute: Execute) -> bool:
    """Whether a container is as its probe wants it."""
    if action := probe.get("grpc"):
        return _serves(f"{address}:{action['port']}", action.get("service", ""))
    if action := probe.get("httpGet"):
        return _answers(f"http://{address}:{_port(action['port'], container)}{action['path']}")
    if action := probe.get("tcpSocket"):
        return _listens(address, _port(action["port"], container))
    return execute(*probe["exec"]["command"])


def _port(named: str | int, container: Object) -> int:
    if isinstance(named, int):
        return named
    return next(int(port["containerPort"]) for port in container["ports"] if port["name"] == named)


def _serves(target: str, service: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return bool(200 <= answer.status < 400)
    except (urllib.error.URLError, OSError):
        return False


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=TIMEOUT_S):
            return True
    except OSError:
        return False
