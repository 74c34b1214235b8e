"""The gRPC face for operators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from services.catalog.rebuild import Rebuild
from services.catalog.requests import Context
from services.catalog.status_encoding import encode_status
from services.catalog.system_status import StatusReports
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.catalog.v1.catalog_pb2_grpc import CatalogAdminServiceServicer
from tintype.domain.access import require_admin
from tintype.runtime.auth import current_caller


class AdminServicer(CatalogAdminServiceServicer):
    """What operators ask of the catalog."""

    def __init__(self, rebuild: Rebuild, reports: StatusReports) -> None:
        self._rebuild = rebuild
        self._reports = reports

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.SystemStatus:
        """How everything is that the catalog can see."""
        require_admin(current_caller(), "see the status of everything")
        return encode_status(await self._reports.report())

    async def RebuildProjection(
        self, request: pb.RebuildProjectionRequest, context: Context
    ) -> AsyncIterator[pb.RebuildProjectionResponse]:
        """Build the tables anew and switch; a client that goes away ends it, and the tables in use stay."""
        require_admin(current_caller(), "rebuild the catalog")
        async with aclosing(self._rebuild.run()) as steps:
            async for step in steps:
                yield pb.RebuildProjectionResponse(
                    position=step.position, head=step.head, images=step.images, switched=step.is_switched
                )
