"""The whole of a deployment at a glance: every service is asked at once, each call with a deadline of its own.

A service that is away costs no more than that deadline, and hides nothing that others know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tintype.api.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from tintype.api.importer.v1 import importer_pb2, importer_pb2_grpc
from tintype.api.runtime.v1 import runtime_pb2, runtime_pb2_grpc
from tintype.client import status_decoding, store_decoding
from tintype.client.errors import ClientError, ConfigurationError
from tintype.client.status_decoding import CatalogReport
from tintype.client.status_judgement import judged
from tintype.client.status_models import ServiceInfo, ServiceStatus, SystemStatus
from tintype.client.store_models import Store
from tintype.client.transport import AS_ADMIN, Metadata, Transport, translated
from tintype.codec.call_metadata import SERVICE_KEY
from tintype.domain.events import Failure

CALL_TIMEOUT_S = 5.0
"""The catalog gives each of its parts three seconds."""

SERVICES = ("catalog", "importer", "converter", "signer")

FROM_CATALOG = ("log", "projection", "queues", "images", "operations", "replicas")
"""What nobody knows while the catalog is away."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a service answered itself."""

    is_ready: bool | Failure
    info: ServiceInfo | Failure


async def system_status(transport: Transport) -> SystemStatus:
    """Ask everybody at once."""
    names = [name for name in SERVICES if name in transport.channels]
    report, stores, asked = await asyncio.gather(
        _or_failure(_catalog_report(transport)),
        _or_failure(_stores(transport)),
        asyncio.gather(*(_asked(transport, name) for name in names)),
    )
    answers = dict(zip(names, asked, strict=True))
    told = report if isinstance(report, CatalogReport) else _nothing_known(answers["catalog"], report)
    unknown = dict(told.unknown)
    if isinstance(stores, Failure):
        unknown["stores"] = _cause("importer", answers.get("importer"), stores)
    services = _services(transport, answers, told.replicas or ())
    return judged(
        taken_at=datetime.now(UTC),
        services=services,
        report=told,
        stores=None if isinstance(stores, Failure) else stores,
        unknown=unknown,
    )


async def _catalog_report(transport: Transport) -> CatalogReport:
    stub = catalog_pb2_grpc.CatalogAdminServiceStub(transport.channels["catalog"])
    request = catalog_pb2.GetStatusRequest()
    async with translated():
        return status_decoding.report(
            await stub.GetStatus(request, timeout=CALL_TIMEOUT_S, metadata=(*transport.metadata, AS_ADMIN))
        )


async def _stores(transport: Transport) -> tuple[Store, ...]:
    if "importer" not in transport.channels:
        raise ConfigurationError("client.importer is missing in the configuration: nobody can be asked about stores")
    stub = importer_pb2_grpc.ImporterServiceStub(transport.channels["importer"])
    request = importer_pb2.ListStoresRequest()
    async with translated():
        answer = await stub.ListStores(request, timeout=CALL_TIMEOUT_S, metadata=transport.metadata)
    return tuple(store_decoding.store(message) for message in answer.stores)


async def _asked(transport: Transport, name: str) -> _Asked:
    channel = transport.channels[name]
    # One address may be that of a router, which sends the call to whom this names.
    metadata = (*transport.metadata, (SERVICE_KEY, name))
    ready, info = await asyncio.gather(_or_failure(_is_ready(channel, metadata)), _or_failure(_info(channel, metadata)))
    return _Asked(ready, info)


async def _is_ready(channel: grpc.aio.Channel, metadata: Metadata) -> bool:
    stub = health_pb2_grpc.HealthStub(channel)
    async with translated():
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT_S, metadata=metadata)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _info(channel: grpc.aio.Channel, metadata: Metadata) -> ServiceInfo:
    stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
    request = runtime_pb2.GetServiceInfoRequest()
    async with translated():
        answer = await stub.GetServiceInfo(request, timeout=CALL_TIMEOUT_S, metadata=(*metadata, AS_ADMIN))
    return status_decoding.info(answer)


async def _or_failure(asked: Awaitable[T]) -> T | Failure:
    try:
        return await asked
    except ClientError as exc:
        return Failure(exc.reason, exc.message, exc.hint, exc.retryable, dict(exc.evidence))


def _nothing_known(catalog: _Asked, failure: Failure) -> CatalogReport:
    return CatalogReport(unknown=dict.fromkeys(FROM_CATALOG, _cause("catalog", catalog, failure)))


def _cause(service: str, asked: _Asked | None, failure: Failure) -> Failure:
    """Why a call failed, in few words where its service is away."""
    if asked is None or not isinstance(asked.is_ready, Failure):
        return failure
    return replace(failure, message=f"the {service} does not answer")


def _services(transport: Transport, asked: dict[str, _Asked], roll: Sequence[ServiceInfo]) -> tuple[ServiceStatus, ...]:
    found = [_service(transport, name, answer, roll) for name, answer in asked.items()]
    for name in sorted({info.service for info in roll} - asked.keys()):
        replicas = tuple(info for info in roll if info.service == name)
        is_ready = any(info.ready for info in replicas)
        found.append(ServiceStatus(name, "", answers=False, ready=is_ready, replicas=replicas, failure=None))
    return tuple(found)


def _service(transport: Transport, name: str, asked: _Asked, roll: Sequence[ServiceInfo]) -> ServiceStatus:
    replicas = {info.instance: info for info in roll if info.service == name}
    # A router that does not look at the metadata asks whomever it likes.
    if isinstance(asked.info, ServiceInfo) and asked.info.service == name:
        replicas[asked.info.instance] = asked.info
    ready, info = asked.is_ready, asked.info
    failure = ready if isinstance(ready, Failure) else info if isinstance(info, Failure) else None
    return ServiceStatus(
        service=name,
        address=transport.config.address(name),
        answers=not isinstance(ready, Failure),
        ready=ready is True,
        replicas=tuple(replicas[instance] for instance in sorted(replicas)),
        failure=failure,
    )
