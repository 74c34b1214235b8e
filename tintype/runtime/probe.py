"""``python -m tintype.runtime.probe HOST:PORT [SERVICE]``: a gRPC server's health, for those who know exit codes alone.

The container engine asks with it whether a service is well: 0 if it serves, 1 if it does not, or does not answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 4.0
"""Below the five seconds after which the images' HEALTHCHECK gives up: then this says why."""

_OK, _UNHEALTHY, _USAGE = 0, 1, 2


def main(arguments: Sequence[str]) -> int:
    """The program's exit code; one line says what was wrong."""
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m tintype.runtime.probe HOST:PORT [SERVICE]", file=sys.stderr)
        return _USAGE
    address, service = arguments[0], arguments[1] if len(arguments) == 2 else ""
    # A proxy of the environment is for the world outside.
    with grpc.insecure_channel(address, (("grpc.enable_http_proxy", 0),)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S, wait_for_ready=True)
        except grpc.RpcError as exc:
            code: grpc.StatusCode = exc.code()
            print(f"{address} did not answer: {code.name}", file=sys.stderr)
            return _UNHEALTHY
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        print(f"{address} is {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}", file=sys.stderr)
        return _UNHEALTHY
    return _OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
