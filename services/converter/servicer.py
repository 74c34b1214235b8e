"""ConverterService: what the converter would do."""

from __future__ import annotations

from typing import Any, assert_never

import grpc

import tintype
from services.converter.converting import Converting
from services.converter.plan import Convert, Tool, plan_conversion
from tintype.api.converter.v1 import converter_pb2 as pb
from tintype.api.converter.v1 import converter_pb2_grpc
from tintype.codec.events import SKIP_REASON
from tintype.codec.values import DISK_FORMAT
from tintype.runtime.auth import current_caller


class ConverterServicer(converter_pb2_grpc.ConverterServiceServicer):
    """Answers for one configuration."""

    def __init__(self, converting: Converting) -> None:
        self._converting = converting

    async def GetConversionPlan(
        self, request: pb.GetConversionPlanRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetConversionPlanResponse:
        """What becomes of an import of a format."""
        current_caller()
        found = DISK_FORMAT.decode(request.disk_format)
        plan = plan_conversion(found, self._converting.preference, is_import=True)
        sandbox = self._converting.sandbox
        return pb.GetConversionPlanResponse(
            output_format=DISK_FORMAT.encode(plan.output_format if isinstance(plan, Convert) else found),
            skipped=SKIP_REASON.encode(None if isinstance(plan, Convert) else plan.why),
            tool=plan.tool if isinstance(plan, Convert) else "",
            tool_version=self._version_of(plan.tool) if isinstance(plan, Convert) else "",
            sandbox="bubblewrap" if sandbox and sandbox.bubblewrap else "none",
        )

    def _version_of(self, tool: Tool) -> str:
        match tool:
            case Tool.READER:
                return tintype.__version__
            case Tool.QEMU_IMG:
                return self._converting.qemu_version or ""
            case Tool.ROOT_DISK:
                return ""  # told by the conversion itself
            case _:
                assert_never(tool)
