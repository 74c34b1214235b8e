"""From the services' messages to the SDK's models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from tintype.api.catalog.v1 import catalog_pb2
from tintype.api.events.v1 import events_pb2
from tintype.api.importer.v1 import importer_pb2
from tintype.api.signer.v1 import signer_pb2
from tintype.client.errors import IntegrityError, ServiceDefectError
from tintype.client.models import (
    Image,
    ImageEvent,
    Operation,
    PluginState,
    PolicyVerdict,
    Progress,
    RebuildProgress,
    ScrubFinding,
    ScrubProgress,
    ServiceKey,
    SignedCheckpoint,
    Upload,
)
from tintype.codec import events, images, values
from tintype.codec.provenance import decode_provenance
from tintype.domain.errors import CheckpointInvalidError, TintypeError
from tintype.domain.provenance import Provenance


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Translate a refusal of the codec: the service speaks of what this release does not know.

    Raises:
        ServiceDefectError: instead of the codec's error.
    """
    try:
        yield
    except TintypeError as exc:
        raise ServiceDefectError(
            f"the service sent {what} that this client does not understand: {exc}",
            reason="NOT_UNDERSTOOD",
            hint="Use a client of the service's release.",
        ) from exc


def image(message: catalog_pb2.Image) -> Image:
    """An image.

    Raises:
        ServiceDefectError: it has values that this release does not know.
    """
    with understood("an image"):
        return Image(
            id=message.id,
            owner=message.owner,
            name=message.name,
            status=values.STATUS.decode(message.status),
            visibility=values.VISIBILITY.decode(message.visibility),
            disk_format=values.DISK_FORMAT.decode_optional(message.disk_format),
            container_format=values.CONTAINER_FORMAT.decode_optional(message.container_format),
            size=message.size if message.HasField("size") else None,
            virtual_size=message.virtual_size if message.HasField("virtual_size") else None,
            digests=dict(sorted(message.digests.items())),
            min_disk=message.min_disk,
            min_ram=message.min_ram,
            protected=message.protected,
            hidden=message.hidden,
            tags=tuple(message.tags),
            properties=dict(sorted(values.decode_properties(message.properties).items())),
            created_at=_time(message.created_at),
            updated_at=_time(message.updated_at),
            stores=tuple(message.stores),
            read_facts=dict(sorted(values.decode_facts(message.read_facts).items())),
            overrides=dict(sorted(values.decode_properties(message.overrides).items())),
            effective_properties=dict(sorted(values.decode_properties(message.effective_properties).items())),
            guest_digest=message.guest_digest,
            verification=(
                events.decode_verification(message.verification) if message.HasField("verification") else None
            ),
            source_digests=dict(sorted(message.source_digests.items())),
            attestation_key_id=message.attestation_key_id,
            damaged_stores=tuple(message.damaged_stores),
            failed_stores=values.decode_failed_stores(message.failed_stores),
            purge_after=_time(message.purge_after) if message.HasField("purge_after") else None,
            failure=values.decode_failure(message.failure) if message.HasField("failure") else None,
            operation_id=message.operation_id,
            etag=message.etag,
            position=message.position,
        )


def operation(message: catalog_pb2.Operation) -> Operation:
    """An operation.

    Raises:
        ServiceDefectError: it has values that this release does not know.
    """
    with understood("an operation"):
        return Operation(
            id=message.id,
            image_id=message.image_id,
            kind=images.OPERATION_KIND.decode(message.kind),
            state=images.OPERATION_STATE.decode(message.state),
            done=message.done,
            step=values.STEP.decode_optional(message.step),
            progress=values.decode_progress(message.progress) if message.HasField("progress") else None,
            failure=values.decode_failure(message.failure) if message.HasField("failure") else None,
            started_at=_time(message.started_at),
            ended_at=_time(message.ended_at) if message.HasField("ended_at") else None,
            position=message.position,
        )


def provenance(message: catalog_pb2.Provenance) -> Provenance:
    """Where an image's bytes come from.

    Raises:
        ServiceDefectError: it has values that this release does not know.
    """
    with understood("a provenance"):
        return decode_provenance(message)


def upload(message: importer_pb2.Upload) -> Upload:
    """An upload."""
    return Upload(
        upload_id=message.upload_id,
        operation_id=message.operation_id,
        image_id=message.image_id,
        committed_size=message.committed_size,
        complete=message.complete,
    )


def plugin(message: importer_pb2.PluginState) -> PluginState:
    """What a deployment does with imports.

    Raises:
        ServiceDefectError: it is something that this release does not know.
    """
    with understood("an import plugin"):
        return PluginState(values.IMPORT_PLUGIN.decode(message.plugin), message.enabled, message.description)


def event(message: events_pb2.ImageEvent) -> ImageEvent:
    """An event.

    Raises:
        ServiceDefectError: it is of a type that this release does not know.
    """
    with understood("an event"):
        return ImageEvent.of(events.decode_event(message))


def change(message: catalog_pb2.WatchImagesResponse) -> ImageEvent | Progress | None:
    """What a watch tells; ``None`` for what this release does not know.

    Raises:
        ServiceDefectError: it has values that this release does not know.
    """
    match message.WhichOneof("change"):
        case "event":
            return event(message.event)
        case "progress":
            with understood("progress"):
                return values.decode_progress(message.progress)
        case _:
            return None


def rebuild(message: catalog_pb2.RebuildProjectionResponse) -> RebuildProgress:
    """How far a rebuild is."""
    return RebuildProgress(message.position, message.head, message.images, message.switched)


def checkpoint(message: signer_pb2.Checkpoint) -> SignedCheckpoint:
    """A checkpoint, as its envelope tells it; its signature is not verified.

    Raises:
        IntegrityError: it is none.
    """
    from tintype.trust.checkpoints import opened

    try:
        sealed = opened(message.envelope)
    except CheckpointInvalidError as exc:
        raise IntegrityError(exc.message, reason=exc.reason, hint=exc.hint) from exc
    told = sealed.checkpoint
    return SignedCheckpoint(
        number=message.number,
        position=told.state.position,
        events=told.state.events,
        images=told.state.images,
        root=f"sha256:{told.state.root}",
        time=told.time,
        previous=told.previous,
        key_id=sealed.key_id,
        complaint=values.decode_failure(message.complaint) if message.HasField("complaint") else None,
        envelope=message.envelope.decode(),
    )


def scrub(message: importer_pb2.ScrubResponse) -> ScrubProgress:
    """How far a scrub is, and what it found."""
    told = message.finding
    finding = ScrubFinding(
        image_id=told.image_id,
        store=told.store,
        expected=told.expected,
        found=told.found,
        healed=told.healed,
        failure=values.decode_failure(told.failure) if told.HasField("failure") else None,
    )
    return ScrubProgress(message.done, message.total, message.copies, finding if message.HasField("finding") else None)


def policy_verdict(message: signer_pb2.PolicyVerdict) -> PolicyVerdict:
    """What a policy says about an image.

    Raises:
        ServiceDefectError: it has values that this release does not know.
    """
    with understood("a policy's verdict"):
        return PolicyVerdict(
            image_id=message.image_id,
            project=message.project,
            allowed=message.allowed,
            verification=events.decode_verification(message.verification) if message.HasField("verification") else None,
            failure=values.decode_failure(message.failure) if message.HasField("failure") else None,
            policy=message.policy,
        )


def service_key(message: signer_pb2.ServiceKey) -> ServiceKey:
    """A key of the service."""
    certificate = message.certificate.decode(errors="replace")
    return ServiceKey(message.id, message.key_type, message.active, _time(message.created_at), certificate)


def _time(message: Timestamp) -> datetime | None:
    return values.decode_time(message) if message.seconds or message.nanos else None
