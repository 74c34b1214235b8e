"""The gRPC face of the importer for operators."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio
import structlog

from services.importer.scrubbing import Finding, Scrubbed, Scrubber, active_images
from services.importer.store_encoding import encode_finding
from services.importer.store_listing import StoreListing
from services.importer.sweep import Kind, Sweeper, Swept
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.api.importer.v1.importer_pb2_grpc import ImporterAdminServiceServicer
from tintype.codec.values import encode_failure
from tintype.domain.access import require_admin
from tintype.domain.errors import ImageNotFoundError, InvalidSizeError
from tintype.domain.values import image_id
from tintype.ports.event_log import EventLog
from tintype.runtime.auth import current_caller
from tintype.runtime.token_bucket import TokenBucket

log = structlog.get_logger(__name__)

ADMIN_SERVICE_NAME = pb.DESCRIPTOR.services_by_name["ImporterAdminService"].full_name

PROGRESS_INTERVAL_S = 0.5


class ImporterAdminServicer(ImporterAdminServiceServicer):
    """What operators ask of the importer."""

    def __init__(
        self,
        scrubber: Scrubber,
        event_log: EventLog,
        stores: StoreListing,
        sweeper: Sweeper,
    ) -> None:
        self._scrubber = scrubber
        self._sweeper = sweeper
        self._log = event_log
        self._stores = stores

    async def Scrub(
        self, request: pb.ScrubRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.ScrubResponse]:
        """Scrub until every copy was looked at; a client that goes away ends it."""
        caller = current_caller()
        require_admin(caller, "scrub")
        if request.rate_bytes_s < 0:
            raise InvalidSizeError("a rate is a number of bytes a second")
        if request.store:
            self._stores.require(request.store)
        images = await active_images(self._log)
        if request.image_id:
            wanted = image_id(request.image_id)
            if wanted not in images:
                raise ImageNotFoundError(f"image {wanted} does not exist, or has no bytes")
            images = {wanted: images[wanted]}
        steps = self._scrubber.scrub(
            images,
            pace=TokenBucket(request.rate_bytes_s),
            actor=caller.actor,
            store=request.store,
            total=0 if request.store else sum(images.values()),
        )
        told_at, last, told = time.monotonic(), Scrubbed(0, 0, 0), None
        async with aclosing(steps):
            async for last in steps:
                if last.finding or time.monotonic() - told_at >= PROGRESS_INTERVAL_S:
                    told_at, told = time.monotonic(), last
                    yield _response(last)
        if last is not told or last.finding:
            yield _response(Scrubbed(last.done, last.total, last.copies))

    async def ExamineStore(
        self, request: pb.ExamineStoreRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExamineStoreResponse:
        """Look at everything about a store."""
        findings = await self._stores.examine(current_caller(), request.store)
        return pb.ExamineStoreResponse(findings=[encode_finding(finding) for finding in findings])

    async def Sweep(
        self, request: pb.SweepRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.SweepResponse]:
        """Sweep until every store was looked at; a client that goes away ends it."""
        caller = current_caller()
        require_admin(caller, "sweep")
        if request.store:
            self._stores.require(request.store)
        log.info("sweep was asked for", actor=caller.actor, store=request.store, dry_run=request.dry_run)
        steps = self._sweeper.steps(store=request.store, dry_run=request.dry_run)
        told_at, blobs = time.monotonic(), 0
        async with aclosing(steps):
            async for step in steps:
                blobs = step.blobs
                if step.finding or time.monotonic() - told_at >= PROGRESS_INTERVAL_S:
                    told_at = time.monotonic()
                    yield _swept(step)
        yield pb.SweepResponse(blobs=blobs)


def _response(step: Scrubbed) -> pb.ScrubResponse:
    finding = _finding(step.finding) if step.finding else None
    return pb.ScrubResponse(done=step.done, total=step.total, copies=step.copies, finding=finding)


_SWEEP_KINDS = {
    None: pb.SWEEP_FINDING_KIND_UNSPECIFIED,
    Kind.UNWANTED: pb.SWEEP_FINDING_KIND_UNWANTED,
    Kind.ORPHAN: pb.SWEEP_FINDING_KIND_ORPHAN,
    Kind.MISSING: pb.SWEEP_FINDING_KIND_MISSING,
    Kind.SPARED: pb.SWEEP_FINDING_KIND_SPARED,
}


def _swept(step: Swept) -> pb.SweepResponse:
    found = step.finding
    if found is None:
        return pb.SweepResponse(blobs=step.blobs)
    finding = pb.SweepFinding(
        store=found.store,
        key=found.key,
        image_id=found.image_id,
        size=found.size,
        kind=_SWEEP_KINDS[found.kind],
        removed=found.is_removed,
        failure=encode_failure(found.failure),
    )
    return pb.SweepResponse(blobs=step.blobs, finding=finding)


def _finding(finding: Finding) -> pb.ScrubFinding:
    return pb.ScrubFinding(
        image_id=finding.image_id,
        store=finding.store,
        expected=str(finding.expected or ""),
        found=str(finding.found or ""),
        healed=finding.is_healed,
        failure=encode_failure(finding.failure),
    )
