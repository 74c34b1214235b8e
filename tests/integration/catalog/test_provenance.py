"""Provenance over gRPC: from the image's own history, for those who may see the image."""

from __future__ import annotations

import pytest

from tests.integration.catalog.conftest import Catalog, as_project, refused
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.events.v1 import events_pb2
from tintype.api.types.v1 import types_pb2
from tintype.codec.provenance import decode_provenance, encode_provenance
from tintype.domain.commands import (
    RecordAttested,
    RecordConversionSkipped,
    RecordPublished,
    RecordStaged,
    RecordVerified,
)
from tintype.domain.events import Origin, SkipReason, StagePurpose, Verdict, Verification, VerificationEvidence
from tintype.domain.provenance import Artifact, Provenance
from tintype.domain.values import Digest, DiskFormat, OperationId, ProjectId
from tintype.testing.events import GUEST_DIGEST, STAGED_BLOB, an_image_id

ORIGIN = Origin("https://example.org/disk", Digest("sha256", "ab" * 32))


async def published(catalog: Catalog) -> pb.Image:
    image = await catalog.create()
    operation = OperationId((await catalog.start_import(image.id)).id)
    for command in (
        RecordStaged(operation, StagePurpose.IMPORT, STAGED_BLOB, origin=ORIGIN),
        RecordVerified(operation, Verification(Verdict.UNSIGNED), VerificationEvidence("78" * 32, (b"der",))),
        RecordConversionSkipped(operation, SkipReason.DISABLED, {}, GUEST_DIGEST),
        RecordAttested(operation, "key-1", b'{"payload": ""}'),
        RecordPublished(operation, (STAGED_BLOB.ref,)),
    ):
        await catalog.work(image.id, command)
    return image


async def test_the_provenance_is_what_the_history_tells(catalog: Catalog) -> None:
    image = await published(catalog)
    found = await catalog.images.GetProvenance(pb.GetProvenanceRequest(image_id=image.id))
    assert (found.image_id, found.project) == (image.id, "default")
    assert dict(found.sent.digests) == dict(found.published.digests) == dict(STAGED_BLOB.digests)
    assert found.published.guest_digest == GUEST_DIGEST
    assert (found.attestation, found.attestation_key_id) == (b'{"payload": ""}', "key-1")
    assert list(found.certificates) == [b"der"]
    assert found.verification.verdict == events_pb2.VERDICT_UNSIGNED
    assert found.origin.uri == ORIGIN.uri


async def test_the_provenance_of_an_image_that_is_not_to_be_seen_does_not_exist(catalog: Catalog) -> None:
    image = await published(catalog)
    request = pb.GetProvenanceRequest(image_id=image.id)
    await catalog.images.UpdateImage(
        pb.UpdateImageRequest(image=pb.Image(id=image.id, visibility=types_pb2.VISIBILITY_PRIVATE))
    )
    refusal = await refused(catalog.images.GetProvenance(request, metadata=as_project("other")))
    assert refusal.reason == "IMAGE_NOT_FOUND"
    assert await catalog.images.GetProvenance(request, metadata=as_project("other", admin=True))


async def test_an_image_without_bytes_has_no_provenance(catalog: Catalog) -> None:
    image = await catalog.create()
    refusal = await refused(catalog.images.GetProvenance(pb.GetProvenanceRequest(image_id=image.id)))
    assert refusal.reason == "IMAGE_HAS_NO_DATA"


@pytest.mark.parametrize(
    "provenance",
    [
        Provenance(
            an_image_id(),
            ProjectId("demo"),
            Artifact(7, {"sha256": "ab" * 32}, None, GUEST_DIGEST, "xz"),
            Artifact(9, {"sha512": "cd" * 64}, DiskFormat.RAW, GUEST_DIGEST),
            Verification(Verdict.SIGNED, Digest("sha256", "ab" * 32), "1", "12" * 32, "CN=P", "RSA-PSS"),
            {"img_signature": "c2ln"},
            (b"one", b"two"),
            ORIGIN,
            b"{}",
            "key-1",
        ),
        Provenance(an_image_id(), ProjectId("demo"), Artifact(0, {}), Artifact(0, {}), Verification(Verdict.UNSIGNED)),
    ],
)
def test_a_provenance_survives_the_wire(provenance: Provenance) -> None:
    assert decode_provenance(pb.Provenance.FromString(encode_provenance(provenance).SerializeToString())) == provenance
