"""What this deployment does with imports."""

from __future__ import annotations

from tintype.api.importer.v1 import importer_pb2
from tintype.client import decoding
from tintype.client.models import PluginState
from tintype.client.transport import Transport


class Importer:
    """The importer itself; bytes go through :class:`~tintype.client.images.Images`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def import_plugins(self) -> tuple[PluginState, ...]:
        """What is done, or could be done, with the images that are imported here.

        Raises:
            ConfigurationError: the configuration names no importer.
        """
        call = self._transport.importer.ListImportPlugins
        answer = await self._transport.call(call, importer_pb2.ListImportPluginsRequest())
        return tuple(decoding.plugin(message) for message in answer.plugins)
