"""What a service looks at all the time, and how that was when it looked last: behind its health, and what it tells."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

from tintype import __version__
from tintype.api.runtime.v1 import runtime_pb2 as pb
from tintype.api.runtime.v1 import runtime_pb2_grpc
from tintype.codec import service_info
from tintype.domain.access import require_admin
from tintype.domain.errors import TintypeError, UnavailableError
from tintype.domain.events import Failure
from tintype.domain.image import failure_of
from tintype.ports.clock import Clock
from tintype.ports.service_info import Check, ServiceInfo
from tintype.runtime.auth import current_caller
from tintype.runtime.metrics import CHECK_OK
from tintype.runtime.tls import certificates_in_use

CHECK_TIMEOUT_S = 15.0
"""A check of a store writes to the disk, which takes its time when images are being written too."""

RUNTIME_SERVICE = pb.DESCRIPTOR.services_by_name["RuntimeService"].full_name

CheckFunction = Callable[[], Awaitable[None]]
"""Raises a :class:`TintypeError` while that which it looks at does not work."""


class CheckBoard:
    """Does the checks of one service, and remembers since when each has been as it is.

    ``required`` fail while the service cannot answer calls, ``parts`` while it goes on without something.
    """

    def __init__(
        self,
        service: str,
        clock: Clock,
        required: Mapping[str, CheckFunction],
        parts: Mapping[str, CheckFunction],
    ) -> None:
        self._service = service
        self._clock = clock
        self._required = required
        self._parts = parts
        self._started_at = clock.now()
        self._instance = f"{socket.gethostname()}/{os.getpid()}"
        self._required_seen: dict[str, Check] = {}
        self._parts_seen: dict[str, Check] = {}

    async def look(self) -> str:
        """Do the required checks, and answer what the first one says that fails; empty if all is well."""
        await self._do(self._required, self._required_seen, required=True)
        seen = (self._required_seen[name] for name in self._required)
        return next((f"{check.name}: {check.failure.message}" for check in seen if check.failure), "")

    async def look_at_parts(self) -> Mapping[str, bool]:
        """Do the others, and answer whether each part works."""
        await self._do(self._parts, self._parts_seen, required=False)
        return {name: self._parts_seen[name].ok for name in self._parts}

    def info(self) -> ServiceInfo:
        """What the service tells of itself, as seen last."""
        required = self._required_seen.values()
        is_ready = len(required) == len(self._required) and all(check.ok for check in required)
        checks = sorted((*required, *self._parts_seen.values()), key=lambda check: (check.ok, not check.required))
        return ServiceInfo(
            self._service,
            __version__,
            self._instance,
            self._started_at,
            ready=is_ready,
            checks=tuple(checks),
            certificates=certificates_in_use(),
        )

    async def _do(self, checks: Mapping[str, CheckFunction], seen: dict[str, Check], *, required: bool) -> None:
        failures = await asyncio.gather(*(_failure(check) for check in checks.values()))
        for name, failure in zip(checks, failures, strict=True):
            before = seen.get(name)
            is_as_before = before is not None and before.ok is (failure is None)
            since = before.since if before is not None and is_as_before else self._clock.now()
            CHECK_OK.labels(name).set(failure is None)
            seen[name] = Check(name, ok=failure is None, required=required, failure=failure, since=since)


class RuntimeServicer(runtime_pb2_grpc.RuntimeServiceServicer):
    """What administrators ask of any service."""

    def __init__(self, info: Callable[[], ServiceInfo]) -> None:
        self._info = info

    async def GetServiceInfo(
        self, request: pb.GetServiceInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ServiceInfo:
        """What this replica is, and how it is; answers at once, also while a check takes its time."""
        require_admin(current_caller(), "look into a service")
        return service_info.encode(self._info())


async def _failure(check: CheckFunction) -> Failure | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check()
    except TintypeError as exc:
        return failure_of(exc)
    except TimeoutError:
        return failure_of(UnavailableError("no answer in time"))
    return None
