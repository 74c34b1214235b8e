"""The provenance of an image, to protobuf and back."""

from __future__ import annotations

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.codec import values
from tintype.codec.events import decode_verification, encode_verification
from tintype.domain.provenance import Artifact, Provenance
from tintype.domain.values import Digest, guest_digest, image_id, project_id


def encode_provenance(provenance: Provenance) -> pb.Provenance:
    """What is told of an image's road."""
    return pb.Provenance(
        image_id=provenance.image_id,
        project=provenance.project,
        sent=_encode_artifact(provenance.sent),
        signature_properties=provenance.signature_properties,
        certificates=provenance.certificates,
        verification=encode_verification(provenance.verification),
        origin=values.encode_origin(provenance.origin),
        published=_encode_artifact(provenance.published),
        attestation=provenance.attestation,
        attestation_key_id=provenance.attestation_key_id,
    )


def decode_provenance(message: pb.Provenance) -> Provenance:
    """What is told of an image's road; nothing of it is proven.

    Raises:
        InvalidArgumentError: a field of no known value, or malformed.
    """
    return Provenance(
        image_id=image_id(message.image_id),
        project=project_id(message.project),
        sent=_decode_artifact(message.sent),
        published=_decode_artifact(message.published),
        verification=decode_verification(message.verification),
        signature_properties=dict(message.signature_properties),
        certificates=tuple(message.certificates),
        origin=values.decode_origin(message.origin) if message.HasField("origin") else None,
        attestation=message.attestation,
        attestation_key_id=message.attestation_key_id,
    )


def _encode_artifact(artifact: Artifact) -> pb.Artifact:
    return pb.Artifact(
        size=artifact.size,
        digests=artifact.digests,
        disk_format=values.DISK_FORMAT.encode(artifact.disk_format),
        guest_digest=artifact.guest_digest or "",
        compression=artifact.compression,
    )


def _decode_artifact(message: pb.Artifact) -> Artifact:
    digests = {name: Digest.parse(f"{name}:{value}").hex for name, value in message.digests.items()}
    return Artifact(
        message.size,
        digests,
        values.DISK_FORMAT.decode_optional(message.disk_format),
        guest_digest(message.guest_digest),
        message.compression,
    )
