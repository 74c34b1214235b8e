"""ConverterService: what the converter would do."""

from __future__ import annotations

from typing import Any

import grpc

from services.converter.plan import Convert, plan_conversion
from services.converter.qemu_img import TOOL
from services.converter.steps import Converting
from tintype.api.converter.v1 import converter_pb2 as pb
from tintype.api.converter.v1 import converter_pb2_grpc
from tintype.codec.events import SKIP_REASON
from tintype.codec.values import DISK_FORMAT
from tintype.runtime.grpc_server import caller_of


class ConverterServicer(converter_pb2_grpc.ConverterServiceServicer):
    """Answers for one configuration."""

    def __init__(self, converting: Converting) -> None:
        self._converting = converting

    async def GetConversionPlan(
        self, request: pb.GetConversionPlanRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetConversionPlanResponse:
        """What becomes of an import of a format."""
        caller_of(context)
        found = DISK_FORMAT.decode(request.disk_format)
        plan = plan_conversion(found, self._converting.preferred, is_import=True, encryption=None)
        is_converted = isinstance(plan, Convert)
        sandbox = self._converting.sandbox
        return pb.GetConversionPlanResponse(
            output_format=DISK_FORMAT.encode(plan.output_format if isinstance(plan, Convert) else found),
            skipped=SKIP_REASON.encode(None if isinstance(plan, Convert) else plan.why),
            tool=TOOL if is_converted else "",
            tool_version=(self._converting.qemu_version or "") if is_converted else "",
            sandbox="bubblewrap" if sandbox and sandbox.bubblewrap else "none",
        )
