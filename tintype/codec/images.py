"""Images and operations, as the catalog shows them."""

from __future__ import annotations

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.codec import values
from tintype.codec.events import encode_verification
from tintype.domain.attributes import UPDATABLE
from tintype.domain.errors import InvalidUpdateMaskError
from tintype.domain.events import Progress, Step
from tintype.domain.image import Image, Operation, OperationKind, OperationState
from tintype.domain.values import ImageId

OPERATION_KIND = values.EnumCodec(
    "operation kind", {m: pb.OperationKind.Value(f"OPERATION_KIND_{m.name}") for m in OperationKind}
)
OPERATION_STATE = values.EnumCodec(
    "operation state", {m: pb.OperationState.Value(f"OPERATION_STATE_{m.name}") for m in OperationState}
)


def encode_image(image: Image) -> pb.Image:
    """An image for its users: where its bytes lie inside the stores is left out."""
    attributes = image.attributes
    message = pb.Image(
        id=image.id,
        owner=image.project,
        name=attributes.name,
        status=values.STATUS.encode(image.status),
        visibility=values.VISIBILITY.encode(attributes.visibility),
        disk_format=values.DISK_FORMAT.encode(attributes.disk_format),
        container_format=values.CONTAINER_FORMAT.encode(attributes.container_format),
        min_disk=image.effective_min_disk(),
        min_ram=image.effective_min_ram(),
        protected=attributes.protected,
        hidden=attributes.hidden,
        tags=attributes.tags,
        properties=values.encode_properties(attributes.properties),
        overrides=values.encode_properties(attributes.overrides),
        effective_properties=values.encode_properties(image.effective_properties()),
        created_at=values.encode_time(image.created_at),
        updated_at=values.encode_time(image.updated_at),
        failure=values.encode_failure(image.failure),
        operation_id=image.operation.id if image.operation else "",
        etag=image.etag,
        position=image.position,
        purge_after=values.encode_time(image.purge_after) if image.purge_after and image.can_be_restored else None,
    )
    if image.data:
        message.MergeFrom(
            pb.Image(
                size=image.data.blob.size,
                virtual_size=image.data.blob.virtual_size,
                digests=image.data.blob.digests,
                read_facts=values.encode_facts(image.facts),
                guest_digest=image.data.blob.guest_digest or "",
                stores=[ref.store for ref in image.data.locations],
                verification=encode_verification(image.data.verification),
                source_digests=image.data.source.digests,
                attestation_key_id=image.data.attestation_key_id,
                damaged_stores=[ref.store for ref in image.data.damaged],
                failed_stores=values.encode_failed_stores(image.data.failed_stores),
            )
        )
    return message


def decode_update_mask(message: pb.UpdateImageRequest, *, may_override: bool) -> tuple[str, ...]:
    """The paths to update: those of the mask, all for ``*``, or else the attributes that are set (AIP-134).

    All are those that the caller may change: who may not override clears no override by sending none.

    Raises:
        InvalidUpdateMaskError: over 256 paths.
    """
    paths = tuple(message.update_mask.paths)
    if len(paths) > 256:
        raise InvalidUpdateMaskError("an update mask has at most 256 paths")
    if paths == ("*",):
        keeps_overrides = not may_override and not message.image.overrides
        return tuple(name for name in UPDATABLE if name != "overrides" or not keeps_overrides)
    if paths:
        return paths
    return tuple(field.name for field, _ in message.image.ListFields() if field.name in UPDATABLE)


def encode_operation(
    image: ImageId, operation: Operation, step: Step | None, position: int, progress: Progress | None = None
) -> pb.Operation:
    """An operation for its users; ``step`` is what it waits for, ``position`` that of its newest event."""
    running = operation.is_running
    return pb.Operation(
        id=operation.id,
        image_id=image,
        kind=OPERATION_KIND.encode(operation.kind),
        state=OPERATION_STATE.encode(operation.state),
        done=not running,
        step=values.STEP.encode(step if running else None),
        progress=values.encode_progress(progress) if progress and running else None,
        failure=values.encode_failure(operation.failure),
        started_at=values.encode_time(operation.started_at),
        ended_at=values.encode_time(operation.ended_at) if operation.ended_at else None,
        position=position,
    )
