"""A catalog and an importer in memory, behind real gRPC: small, and honest on the wire.

Errors travel as the services send them. What is to go wrong is said beforehand, in ``faults``.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.catalog.v1 import catalog_pb2_grpc
from tintype.api.events.v1 import events_pb2
from tintype.api.importer.v1 import importer_pb2, importer_pb2_grpc
from tintype.api.runtime.v1 import runtime_pb2, runtime_pb2_grpc
from tintype.api.signer.v1 import signer_pb2, signer_pb2_grpc
from tintype.api.types.v1 import types_pb2
from tintype.codec import framing, values
from tintype.codec.call_metadata import ADMIN_KEY, SERVICE_KEY
from tintype.domain import errors
from tintype.domain.values import Digest
from tintype.ports.service_keys import ServiceKey
from tintype.runtime.clock import SystemClock
from tintype.runtime.error_table import to_rpc_status
from tintype.trust.signing import signature_properties

Part = TypeVar("Part", bound="_Part")
Asked = TypeVar("Asked", bound=Message)
Answered = TypeVar("Answered", bound=Message)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHUNK = 1024


@dataclass
class Upload:
    """An upload, and what it has."""

    image_id: str
    operation_id: str
    expected_size: int | None
    data: bytearray = field(default_factory=bytearray)
    is_complete: bool = False


@dataclass
class Faults:
    """What shall go wrong: each number counts down to none."""

    unavailable_calls: int = 0
    break_writes_at: list[int] = field(default_factory=list)
    break_reads_at: list[int] = field(default_factory=list)
    lose_last_answer: bool = False
    damaged_reads: bool = False
    lost_bytes: int = 0
    conflicts: int = 0
    refuse_write: errors.TintypeError | None = None
    signs_not: bool = False


class FakeServices:
    """State and behaviour; served by :func:`serving`."""

    def __init__(self) -> None:
        self.images: dict[str, pb.Image] = {}
        self.data: dict[str, bytes] = {}
        self.operations: dict[str, list[pb.Operation]] = {}
        self.uploads: dict[str, Upload] = {}
        self.provenances: dict[str, pb.Provenance] = {}
        self.cancelled: list[str] = []
        self.plugins: list[importer_pb2.PluginState] = []
        self.stores: list[importer_pb2.Store] = []
        self.locations: list[importer_pb2.ImageLocation] = []
        self.findings: list[importer_pb2.StoreFinding] = []
        self.swept: list[importer_pb2.SweepResponse] = []
        self.status = pb.SystemStatus()
        self.infos: dict[str, runtime_pb2.ServiceInfo] = {}
        self.unready: set[str] = set()
        self.refuses_administrators = False
        self.delays_deletion = False
        self.events: list[events_pb2.ImageEvent] = []
        self.requests: list[Message] = []
        self.metadata: dict[str, str] = {}
        self.verdicts: list[signer_pb2.PolicyVerdict] = []
        self.keys = MemoryServiceKeys(MemoryKeyManager(SystemClock()))
        self.trust = signer_pb2.Trust()
        self.certificates: dict[str, bytes] = {}
        self.faults = Faults()
        self.meanwhile: list[events_pb2.ImageEvent] = []
        """What happens once a watch has broken."""
        self.position = 0
        self.target = ""

    def add_image(self, name: str, *, data: bytes | None = None, image_id: str | None = None) -> pb.Image:
        """An image that is there before the test begins."""
        self.position += 1
        image = pb.Image(
            id=image_id or str(uuid.uuid4()),
            owner="default",
            name=name,
            status=types_pb2.STATUS_QUEUED if data is None else types_pb2.STATUS_ACTIVE,
            visibility=types_pb2.VISIBILITY_SHARED,
            created_at=values.encode_time(NOW),
            updated_at=values.encode_time(NOW),
            etag='"1"',
            position=self.position,
        )
        if data is not None:
            image.size = len(data)
            image.digests["sha256"] = hashlib.sha256(data).hexdigest()
            image.digests["md5"] = hashlib.md5(data).hexdigest()
            self.data[image.id] = data
        self.images[image.id] = image
        return image

    def add_operation(self, *states: pb.Operation) -> str:
        """An operation that goes through ``states``, one for each time that somebody asks."""
        self.operations[states[0].id] = list(states)
        return states[0].id

    def image(self, image_id: str) -> pb.Image:
        """The image of that id."""
        if image_id not in self.images:
            raise errors.ImageNotFoundError(f"there is no image {image_id}")
        return self.images[image_id]

    async def note(self, request: Message, context: Any) -> None:
        """Remember a request, and fail it if that is its fate."""
        self.requests.append(request)
        self.metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        if self.faults.unavailable_calls:
            self.faults.unavailable_calls -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


async def refuse(context: Any, error: errors.TintypeError) -> None:
    """End a call as the services do."""
    status = rpc_status.to_status(to_rpc_status(error))
    context.set_trailing_metadata(status.trailing_metadata)
    await context.abort(status.code, status.details)


def served(
    method: Callable[[Part, Asked, Any], Awaitable[Answered]],
) -> Callable[[Part, Asked, Any], Awaitable[Answered]]:
    """A unary method: its request is noted, and its error travels as the services' do."""

    async def call(self: Part, request: Asked, context: Any) -> Answered:
        await self.services.note(request, context)
        try:
            return await method(self, request, context)
        except errors.TintypeError as exc:
            await refuse(context, exc)
            raise

    return call


class _Part:
    def __init__(self, services: FakeServices) -> None:
        self.services = services


class Catalog(_Part, catalog_pb2_grpc.CatalogServiceServicer):
    """Images."""

    @served
    async def CreateImage(self, request: pb.CreateImageRequest, context: Any) -> pb.Image:
        if request.image_id in self.services.images:
            raise errors.ImageExistsError(f"image {request.image_id} exists")
        if "\x00" in request.image.name:
            raise errors.InvalidNameError("no control characters")
        image = self.services.add_image(request.image.name, image_id=request.image_id or None)
        kept = image.visibility
        image.MergeFrom(request.image)
        image.visibility = request.image.visibility or kept
        return image

    @served
    async def GetImage(self, request: pb.GetImageRequest, context: Any) -> pb.Image:
        return self.services.image(request.image_id)

    @served
    async def ListImages(self, request: pb.ListImagesRequest, context: Any) -> pb.ListImagesResponse:
        images = [image for image in self.services.images.values() if self._matches(image, request.filter)]
        start = int(request.page_token or 0)
        end = start + request.page_size
        return pb.ListImagesResponse(images=images[start:end], next_page_token=str(end) if end < len(images) else "")

    def _matches(self, image: pb.Image, expression: str) -> bool:
        return all(f'name="{image.name}"' == term for term in expression.split(" AND ") if term.startswith("name="))

    @served
    async def UpdateImage(self, request: pb.UpdateImageRequest, context: Any) -> pb.Image:
        image = self.services.image(request.image.id)
        if request.image.etag and self.services.faults.conflicts:
            self.services.faults.conflicts -= 1
            raise errors.EtagMismatchError("it is no longer so")
        for path in request.update_mask.paths:
            if path == "tags":
                image.tags[:] = request.image.tags
            elif path.startswith(("properties.", "overrides.")):
                name, _, key = path.partition(".")
                kept, given = getattr(image, name), getattr(request.image, name)
                kept.pop(key, None)
                if key in given:
                    kept[key].CopyFrom(given[key])
            else:
                setattr(image, path, getattr(request.image, path))
        return image

    @served
    async def DeleteImage(self, request: pb.DeleteImageRequest, context: Any) -> pb.Image:
        image = self.services.image(request.image_id)
        if image.protected:
            raise errors.ImageProtectedError(f"image {image.id} is protected")
        if request.skip_delay or not self.services.delays_deletion:
            del self.services.images[image.id]
            return image
        image.status = types_pb2.STATUS_DELETED
        image.purge_after.FromDatetime(NOW)
        return image

    @served
    async def RestoreImage(self, request: pb.RestoreImageRequest, context: Any) -> pb.Image:
        image = self.services.image(request.image_id)
        image.ClearField("purge_after")
        image.status = types_pb2.STATUS_ACTIVE
        return image

    @served
    async def CopyImage(self, request: pb.CopyImageRequest, context: Any) -> pb.Operation:
        image = self.services.image(request.image_id)
        wanted = request.placement.stores or [store.name for store in self.services.stores]
        if new := [name for name in wanted if name not in image.stores]:
            image.stores.extend(new)
        else:
            raise errors.CopyExistsError("the image has a sound copy in each of these stores")
        name = next((name for name, states in self.services.operations.items() if states[0].image_id == image.id), "")
        return self.services.operations[name][0] if name else operation(image.id, kind=pb.OPERATION_KIND_COPY)

    @served
    async def RemoveCopy(self, request: pb.RemoveCopyRequest, context: Any) -> pb.Image:
        image = self.services.image(request.image_id)
        if request.store not in image.stores:
            raise errors.CopyNotFoundError(f"the image has no copy in {request.store!r}")
        if len(image.stores) == 1:
            raise errors.LastCopyError("it is the last one")
        image.stores.remove(request.store)
        return image

    @served
    async def ImportImage(self, request: pb.ImportImageRequest, context: Any) -> pb.Operation:
        image = self.services.image(request.image_id)
        name = next((name for name, states in self.services.operations.items() if states[0].image_id == image.id), "")
        return self.services.operations[name][0] if name else operation(image.id)

    @served
    async def GetProvenance(self, request: pb.GetProvenanceRequest, context: Any) -> pb.Provenance:
        if request.image_id not in self.services.provenances:
            raise errors.ImageNotFoundError("no such image")
        return self.services.provenances[request.image_id]

    @served
    async def ListImageEvents(self, request: pb.ListImageEventsRequest, context: Any) -> pb.ListImageEventsResponse:
        start = int(request.page_token or 0)
        events = [event for event in self.services.events if event.image_id == request.image_id]
        token = str(start + 1) if start + 1 < len(events) else ""
        return pb.ListImageEventsResponse(events=events[start : start + 1], next_page_token=token)

    async def WatchImages(self, request: pb.WatchImagesRequest, context: Any) -> AsyncIterator[pb.WatchImagesResponse]:
        await self.services.note(request, context)
        after = request.after_position if request.HasField("after_position") else self.services.position
        await context.send_initial_metadata((("tintype-position", str(after)),))
        # One event for each stream, and then the service goes away.
        for event in self.services.events:
            if event.position > after:
                yield pb.WatchImagesResponse(event=event)
                break
        self.services.events += self.services.meanwhile
        self.services.position += len(self.services.meanwhile)
        self.services.meanwhile = []
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the service goes away")


class OperationsPart(_Part, catalog_pb2_grpc.OperationsServiceServicer):
    """Operations."""

    def _next(self, name: str) -> pb.Operation:
        states = self.services.operations.get(name)
        if not states:
            raise errors.OperationNotFoundError(f"there is no operation {name}")
        return states.pop(0) if len(states) > 1 else states[0]

    @served
    async def GetOperation(self, request: pb.GetOperationRequest, context: Any) -> pb.Operation:
        return self._next(request.operation_id)

    @served
    async def WaitOperation(self, request: pb.WaitOperationRequest, context: Any) -> pb.Operation:
        return self._next(request.operation_id)

    @served
    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Any) -> pb.Operation:
        state = self._next(request.operation_id)
        if state.done:
            raise errors.OperationDoneError("it has ended")
        return operation(state.image_id, name=state.id, state=pb.OPERATION_STATE_CANCELLED)


class AdminPart(_Part, catalog_pb2_grpc.CatalogAdminServiceServicer):
    """A rebuild in two steps, and the status that a test has put there."""

    @served
    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.SystemStatus:
        if self.services.refuses_administrators:
            raise errors.NotPermittedError("only an administrator may do that")
        return self.services.status

    async def RebuildProjection(
        self, request: pb.RebuildProjectionRequest, context: Any
    ) -> AsyncIterator[pb.RebuildProjectionResponse]:
        await self.services.note(request, context)
        yield pb.RebuildProjectionResponse(position=1, head=2, images=1)
        yield pb.RebuildProjectionResponse(position=2, head=2, images=1, switched=True)


class RuntimePart(_Part, runtime_pb2_grpc.RuntimeServiceServicer):
    """What the service of that name tells of itself, as behind a router; one without infos does not know the call."""

    async def GetServiceInfo(self, request: runtime_pb2.GetServiceInfoRequest, context: Any) -> runtime_pb2.ServiceInfo:
        name = service_asked_for(context)
        if name not in self.services.infos:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such call")
        return self.services.infos[name]


class HealthPart(_Part, health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it has no types
    """Well, but for those that a test names."""

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        is_ready = service_asked_for(context) not in self.services.unready
        return health_pb2.HealthCheckResponse(
            status=health_pb2.HealthCheckResponse.SERVING if is_ready else health_pb2.HealthCheckResponse.NOT_SERVING
        )


def service_asked_for(context: Any) -> str:
    """Of which service behind one address something is asked."""
    return str(dict(context.invocation_metadata() or ()).get(SERVICE_KEY, "catalog"))


class ImporterAdminPart(_Part, importer_pb2_grpc.ImporterAdminServiceServicer):
    """Examinations and sweeps that find what a test has put there."""

    async def Scrub(
        self, request: importer_pb2.ScrubRequest, context: Any
    ) -> AsyncIterator[importer_pb2.ScrubResponse]:
        await self.services.note(request, context)
        yield importer_pb2.ScrubResponse()

    @served
    async def ExamineStore(
        self, request: importer_pb2.ExamineStoreRequest, context: Any
    ) -> importer_pb2.ExamineStoreResponse:
        if request.store not in [store.name for store in self.services.stores]:
            raise errors.StoreNotFoundError(f"store {request.store!r} is not configured here")
        return importer_pb2.ExamineStoreResponse(findings=self.services.findings)

    async def Sweep(
        self, request: importer_pb2.SweepRequest, context: Any
    ) -> AsyncIterator[importer_pb2.SweepResponse]:
        await self.services.note(request, context)
        for response in self.services.swept:
            yield response


class SignerPart(_Part, signer_pb2_grpc.SignerServiceServicer):
    """Keys in memory, of which the newest signs for everybody but ``faults.signs_not``."""

    @served
    async def SignDigest(self, request: signer_pb2.SignDigestRequest, context: Any) -> signer_pb2.SignDigestResponse:
        if self.services.faults.signs_not:
            raise errors.SigningNotPermittedError("not for this project")
        digest = Digest.parse(request.digest)
        key = (await self.services.keys.keys())[0]
        signature = await self.services.keys.sign(key.id, digest)
        properties = signature_properties(signature, digest, key.key_type, key.id)
        return signer_pb2.SignDigestResponse(properties=properties, certificate=key.certificate)

    @served
    async def GetCertificate(
        self, request: signer_pb2.GetCertificateRequest, context: Any
    ) -> signer_pb2.GetCertificateResponse:
        for key in await self.services.keys.keys():
            if key.id == request.certificate_id:
                return signer_pb2.GetCertificateResponse(certificate=key.certificate)
        if request.certificate_id in self.services.certificates:
            certificate = self.services.certificates[request.certificate_id]
            return signer_pb2.GetCertificateResponse(certificate=certificate)
        raise errors.CertificateNotFoundError("none of that id")

    @served
    async def ListKeys(self, request: signer_pb2.ListKeysRequest, context: Any) -> signer_pb2.ListKeysResponse:
        return signer_pb2.ListKeysResponse(keys=[service_key(key) for key in await self.services.keys.keys()])

    @served
    async def VerifyDigest(
        self, request: signer_pb2.VerifyDigestRequest, context: Any
    ) -> signer_pb2.VerifyDigestResponse:
        raise NotImplementedError

    @served
    async def GetTrust(self, request: signer_pb2.GetTrustRequest, context: Any) -> signer_pb2.Trust:
        return self.services.trust

    @served
    async def TestPolicy(self, request: signer_pb2.TestPolicyRequest, context: Any) -> signer_pb2.PolicyVerdict:
        for verdict in self.services.verdicts:
            if verdict.image_id == request.image_id:
                return verdict
        raise errors.ImageNotFoundError("no such image")

    @served
    async def GetCheckpoint(self, request: signer_pb2.GetCheckpointRequest, context: Any) -> signer_pb2.Checkpoint:
        raise NotImplementedError


class SignerAdminPart(_Part, signer_pb2_grpc.SignerAdminServiceServicer):
    """Rotation."""

    @served
    async def RotateKey(self, request: signer_pb2.RotateKeyRequest, context: Any) -> signer_pb2.ServiceKey:
        if self.services.metadata.get(ADMIN_KEY) != "true":
            raise errors.NotPermittedError("only an administrator")
        return service_key(await self.services.keys.rotate(f"key-of-{request.request_id}"))

    async def ReplayPolicy(
        self, request: signer_pb2.ReplayPolicyRequest, context: Any
    ) -> AsyncIterator[signer_pb2.ReplayPolicyResponse]:
        await self.services.note(request, context)
        head = len(self.services.verdicts) + 1
        yield signer_pb2.ReplayPolicyResponse(position=1, head=head)
        for position, verdict in enumerate(self.services.verdicts, start=2):
            if request.project in ("", verdict.project):
                yield signer_pb2.ReplayPolicyResponse(position=position, head=head, verdict=verdict)


def store(
    name: str, *, mode: importer_pb2.StoreMode.ValueType = importer_pb2.STORE_MODE_READ_WRITE, **more: Any
) -> importer_pb2.Store:
    """A store's message."""
    return importer_pb2.Store(name=name, kind="file", mode=mode, since=values.encode_time(NOW), **more)


def verdict(image_id: str, project: str = "p1", *, reason: str = "") -> signer_pb2.PolicyVerdict:
    """What a policy says: let in, or refused for a reason."""
    failure = types_pb2.Failure(reason=reason, message="no", hint="do it", evidence={"certificate_subject": "CN=X"})
    verification = events_pb2.Verification(verdict=events_pb2.VERDICT_SIGNED, certificate_subject="CN=Publisher")
    return signer_pb2.PolicyVerdict(
        image_id=image_id,
        project=project,
        allowed=not reason,
        verification=None if reason else verification,
        failure=failure if reason else None,
        policy="ab" * 32,
    )


def service_key(key: ServiceKey) -> signer_pb2.ServiceKey:
    """A key's message."""
    return signer_pb2.ServiceKey(
        id=key.id,
        key_type=key.key_type,
        certificate=key.certificate,
        created_at=values.encode_time(key.created_at),
        active=key.is_active,
    )


class Importer(_Part):
    """Bytes: the unary calls by the generated classes, the streams framed by hand, as the importer does."""

    async def start(self, request: importer_pb2.StartUploadRequest, context: Any) -> importer_pb2.Upload:
        self.services.image(request.image_id)
        name = f"upload-{len(self.services.uploads)}"
        size = request.expected_size if request.HasField("expected_size") else None
        self.services.uploads[name] = Upload(request.image_id, str(uuid.uuid4()), size)
        return self._state(name)

    async def query(self, request: importer_pb2.QueryWriteStatusRequest, context: Any) -> importer_pb2.Upload:
        return self._state(request.upload_id)

    async def plugins(self, request: importer_pb2.ListImportPluginsRequest, context: Any) -> Message:
        return importer_pb2.ListImportPluginsResponse(plugins=self.services.plugins)

    async def list_stores(self, request: importer_pb2.ListStoresRequest, context: Any) -> Message:
        return importer_pb2.ListStoresResponse(stores=self.services.stores)

    async def list_locations(self, request: importer_pb2.ListImageLocationsRequest, context: Any) -> Message:
        self.services.image(request.image_id)
        return importer_pb2.ListImageLocationsResponse(locations=self.services.locations)

    async def cancel(self, request: importer_pb2.CancelUploadRequest, context: Any) -> Message:
        self.services.cancelled.append(request.upload_id)
        return importer_pb2.CancelUploadResponse()

    def _state(self, name: str) -> importer_pb2.Upload:
        if name not in self.services.uploads:
            raise errors.UploadNotFoundError(f"there is no upload {name}")
        upload = self.services.uploads[name]
        return importer_pb2.Upload(
            upload_id=name,
            operation_id=upload.operation_id,
            image_id=upload.image_id,
            committed_size=len(upload.data),
            complete=upload.is_complete,
        )

    async def write(self, messages: AsyncIterator[bytes], context: Any) -> importer_pb2.WriteResponse:
        upload: Upload | None = None
        try:
            async for message in messages:
                frame = framing.decode_write(message)
                upload = upload or self.services.uploads[frame.upload_id]
                if frame.write_offset != len(upload.data):
                    raise errors.WrongOffsetError(f"write at {len(upload.data)}")
                upload.data += frame.data
                faults = self.services.faults
                if faults.refuse_write:
                    raise faults.refuse_write
                if faults.break_writes_at and len(upload.data) >= faults.break_writes_at[0]:
                    faults.break_writes_at.pop(0)
                    del upload.data[len(upload.data) - faults.lost_bytes :]
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
                if frame.finish_write:
                    if upload.expected_size not in (None, len(upload.data)):
                        raise errors.SizeMismatchError(f"{upload.expected_size} bytes were announced")
                    upload.is_complete = True
                    if faults.lose_last_answer:
                        faults.lose_last_answer = False
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        except errors.TintypeError as exc:
            await refuse(context, exc)
        assert upload is not None
        return importer_pb2.WriteResponse(
            committed_size=len(upload.data), operation_id=upload.operation_id, position=41
        )

    async def read(self, request: importer_pb2.ReadRequest, context: Any) -> AsyncIterator[bytes]:
        self.services.requests.append(request)
        data = self.services.data.get(request.image_id)
        if data is None:
            await refuse(context, errors.ImageHasNoDataError("it has no bytes"))
            return
        end = request.read_offset + request.read_limit if request.read_limit else len(data)
        faults = self.services.faults
        for start in range(request.read_offset, min(end, len(data)), CHUNK):
            if faults.break_reads_at and start >= faults.break_reads_at[0]:
                faults.break_reads_at.pop(0)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            chunk = data[start : min(start + CHUNK, end)]
            yield framing.encode_read(b"\xff" * len(chunk) if faults.damaged_reads else chunk)


def operation(
    image_id: str,
    *,
    name: str = "",
    kind: pb.OperationKind.ValueType = pb.OPERATION_KIND_IMPORT,
    state: pb.OperationState.ValueType = pb.OPERATION_STATE_RUNNING,
    step: types_pb2.Step.ValueType = types_pb2.STEP_UNSPECIFIED,
    failure: types_pb2.Failure | None = None,
) -> pb.Operation:
    """An operation's message."""
    return pb.Operation(
        id=name or str(uuid.uuid4()),
        image_id=image_id,
        kind=kind,
        state=state,
        done=state != pb.OPERATION_STATE_RUNNING,
        step=step,
        failure=failure,
        started_at=values.encode_time(NOW),
        position=7,
    )


@asynccontextmanager
async def serving(services: FakeServices) -> AsyncIterator[FakeServices]:
    """Serve on a port of loopback; ``services.target`` says which."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", framing.MAX_MESSAGE_SIZE)])
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(Catalog(services), server)
    catalog_pb2_grpc.add_OperationsServiceServicer_to_server(OperationsPart(services), server)
    catalog_pb2_grpc.add_CatalogAdminServiceServicer_to_server(AdminPart(services), server)
    runtime_pb2_grpc.add_RuntimeServiceServicer_to_server(RuntimePart(services), server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthPart(services), server)
    importer_pb2_grpc.add_ImporterAdminServiceServicer_to_server(ImporterAdminPart(services), server)
    signer_pb2_grpc.add_SignerServiceServicer_to_server(SignerPart(services), server)
    signer_pb2_grpc.add_SignerAdminServiceServicer_to_server(SignerAdminPart(services), server)
    server.add_generic_rpc_handlers((_importer_handlers(Importer(services)),))
    await services.keys.rotate("service-key-1")
    services.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield services
    finally:
        await server.stop(None)


@contextmanager
def serving_in_thread(services: FakeServices) -> Iterator[FakeServices]:
    """Serve beside a test that has no event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    context = serving(services)

    def run(step: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(step, loop).result()

    async def enter() -> None:
        await context.__aenter__()

    async def leave() -> None:
        await context.__aexit__(None, None, None)

    with ExitStack() as cleanup:
        cleanup.callback(loop.close)
        cleanup.callback(thread.join)
        cleanup.callback(loop.call_soon_threadsafe, loop.stop)
        run(enter())
        cleanup.callback(lambda: run(leave()))
        yield services


def _importer_handlers(importer: Importer) -> grpc.GenericRpcHandler:
    def unary(method: Callable[..., Awaitable[Message]], request: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
        async def call(message: Message, context: Any) -> Message:
            await importer.services.note(message, context)
            try:
                return await method(message, context)
            except errors.TintypeError as exc:
                await refuse(context, exc)
                raise

        return grpc.unary_unary_rpc_method_handler(call, request.FromString, lambda answer: answer.SerializeToString())

    return grpc.method_handlers_generic_handler(
        "tintype.api.importer.v1.ImporterService",
        {
            "StartUpload": unary(importer.start, importer_pb2.StartUploadRequest),
            "ListImportPlugins": unary(importer.plugins, importer_pb2.ListImportPluginsRequest),
            "ListStores": unary(importer.list_stores, importer_pb2.ListStoresRequest),
            "ListImageLocations": unary(importer.list_locations, importer_pb2.ListImageLocationsRequest),
            "QueryWriteStatus": unary(importer.query, importer_pb2.QueryWriteStatusRequest),
            "CancelUpload": unary(importer.cancel, importer_pb2.CancelUploadRequest),
            "Write": grpc.stream_unary_rpc_method_handler(
                importer.write, None, importer_pb2.WriteResponse.SerializeToString
            ),
            "Read": grpc.unary_stream_rpc_method_handler(importer.read, importer_pb2.ReadRequest.FromString, None),
        },
    )
