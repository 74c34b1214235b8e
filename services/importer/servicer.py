"""ImporterService over gRPC: requests to calls, results to responses.

The two byte streams skip protobuf: their messages are framed by hand (:mod:`tintype.codec.framing`), which any gRPC
client understands all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from services.importer.downloads import Downloads
from services.importer.locations import Locations
from services.importer.plugins import ImportPlugins
from services.importer.store_encoding import encode_location, encode_store
from services.importer.store_listing import StoreListing
from services.importer.uploads import Uploads, UploadState
from tintype.api.importer.v1 import importer_pb2 as pb
from tintype.codec.events import STAGE_PURPOSE
from tintype.codec.framing import WriteFrame, decode_write, encode_read
from tintype.codec.values import IMPORT_PLUGIN, decode_placement
from tintype.domain.values import Digest, image_id
from tintype.runtime.auth import current_caller

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["ImporterService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


class ImporterServicer:
    """The calls of ImporterService."""

    def __init__(
        self,
        uploads: Uploads,
        downloads: Downloads,
        plugins: ImportPlugins,
        stores: StoreListing,
        locations: Locations,
    ) -> None:
        self._uploads = uploads
        self._downloads = downloads
        self._plugins = plugins
        self._stores = stores
        self._locations = locations

    async def start_upload(self, request: pb.StartUploadRequest, context: Context) -> pb.Upload:
        """Begin an upload."""
        state = await self._uploads.start(
            current_caller(),
            image_id(request.image_id),
            STAGE_PURPOSE.decode(request.purpose),
            size=request.expected_size if request.HasField("expected_size") else None,
            digest=Digest.parse(request.expected_digest) if request.expected_digest else None,
            request_id=request.request_id,
            hash_algorithm=request.hash_algorithm,
            placement=decode_placement(request.placement),
        )
        return _upload(state)

    async def write(self, requests: AsyncIterator[bytes], context: Context) -> pb.WriteResponse:
        """Take bytes."""
        state = await self._uploads.write(current_caller(), _frames(requests))
        return pb.WriteResponse(
            committed_size=state.committed_size,
            operation_id=state.token.operation_id if state.is_complete else "",
            position=state.position,
        )

    async def query_write_status(self, request: pb.QueryWriteStatusRequest, context: Context) -> pb.Upload:
        """Say how many bytes of an upload are kept."""
        return _upload(await self._uploads.status(current_caller(), request.upload_id))

    async def cancel_upload(self, request: pb.CancelUploadRequest, context: Context) -> pb.CancelUploadResponse:
        """Give an upload up."""
        await self._uploads.cancel(current_caller(), request.upload_id)
        return pb.CancelUploadResponse()

    async def list_import_plugins(
        self, request: pb.ListImportPluginsRequest, context: Context
    ) -> pb.ListImportPluginsResponse:
        """Say what this deployment does with imports."""
        return pb.ListImportPluginsResponse(
            plugins=[
                pb.PluginState(
                    plugin=IMPORT_PLUGIN.encode(state.plugin), enabled=state.is_enabled, description=state.description
                )
                for state in self._plugins.states()
            ]
        )

    async def list_stores(self, request: pb.ListStoresRequest, context: Context) -> pb.ListStoresResponse:
        """Say what stores there are, and how they are."""
        caller = current_caller()
        return pb.ListStoresResponse(stores=[encode_store(view, caller) for view in await self._stores.all()])

    async def list_image_locations(
        self, request: pb.ListImageLocationsRequest, context: Context
    ) -> pb.ListImageLocationsResponse:
        """Say where an image is."""
        found = await self._locations.of(current_caller(), image_id(request.image_id), request.expires_in_s)
        return pb.ListImageLocationsResponse(locations=[encode_location(each) for each in found])

    async def read(self, request: pb.ReadRequest, context: Context) -> AsyncIterator[bytes]:
        """Send an image's bytes."""
        pieces = self._downloads.read(
            current_caller(), image_id(request.image_id), offset=request.read_offset, limit=request.read_limit
        )
        async with aclosing(pieces):  # type: ignore[type-var]  # a generator
            async for piece in pieces:
                yield encode_read(piece)


def register(servicer: ImporterServicer, server: grpc.aio.Server) -> None:
    """Add the servicer to a server, the byte streams as raw bytes."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "StartUpload": grpc.unary_unary_rpc_method_handler(
            servicer.start_upload, pb.StartUploadRequest.FromString, pb.Upload.SerializeToString
        ),
        "Write": grpc.stream_unary_rpc_method_handler(servicer.write, None, pb.WriteResponse.SerializeToString),
        "QueryWriteStatus": grpc.unary_unary_rpc_method_handler(
            servicer.query_write_status, pb.QueryWriteStatusRequest.FromString, pb.Upload.SerializeToString
        ),
        "CancelUpload": grpc.unary_unary_rpc_method_handler(
            servicer.cancel_upload, pb.CancelUploadRequest.FromString, pb.CancelUploadResponse.SerializeToString
        ),
        "ListImportPlugins": grpc.unary_unary_rpc_method_handler(
            servicer.list_import_plugins,
            pb.ListImportPluginsRequest.FromString,
            pb.ListImportPluginsResponse.SerializeToString,
        ),
        "ListStores": grpc.unary_unary_rpc_method_handler(
            servicer.list_stores, pb.ListStoresRequest.FromString, pb.ListStoresResponse.SerializeToString
        ),
        "ListImageLocations": grpc.unary_unary_rpc_method_handler(
            servicer.list_image_locations,
            pb.ListImageLocationsRequest.FromString,
            pb.ListImageLocationsResponse.SerializeToString,
        ),
        "Read": grpc.unary_stream_rpc_method_handler(servicer.read, pb.ReadRequest.FromString, None),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))


async def _frames(requests: AsyncIterator[bytes]) -> AsyncIterator[WriteFrame]:
    async for message in requests:
        yield decode_write(message)


def _upload(state: UploadState) -> pb.Upload:
    return pb.Upload(
        upload_id=str(state.token),
        operation_id=state.token.operation_id,
        image_id=state.token.image_id,
        committed_size=state.committed_size,
        complete=state.is_complete,
    )
