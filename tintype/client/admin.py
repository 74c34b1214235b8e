"""What operators ask of the catalog."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.client import decoding
from tintype.client.models import RebuildProgress
from tintype.client.transport import AS_ADMIN, Transport


class Admin:
    """Work on the catalog itself."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def rebuild(self) -> AsyncGenerator[RebuildProgress, None]:
        """Build the catalog's tables anew from the log, beside those in use, and switch; yield how far it is.

        The last one that is yielded has ``switched`` set. Closing the iterator before gives the new tables up.

        Raises:
            ClientError: the catalog refused, or the stream broke: rebuild again.
        """
        messages = self._transport.stream(
            self._transport.admin.RebuildProjection, pb.RebuildProjectionRequest(), extra_metadata=(AS_ADMIN,)
        )
        async with aclosing(messages):
            async for message in messages:
                yield decoding.rebuild(message)
