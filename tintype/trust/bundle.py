"""A provenance bundle: all that proves an image's chain of custody in one JSON file, but for whom to trust.

``docs/provenance.md`` defines the form. The attestation stands in it as the DSSE envelope that it is, so that other
programs find it: what its signature covers is inside, whatever the spaces around.
"""

from __future__ import annotations

import base64

from tintype.domain.attributes import SIGNATURE_PROPERTIES
from tintype.domain.errors import AttestationInvalidError, BundleInvalidError, TintypeError
from tintype.domain.events import Origin, Verification
from tintype.domain.provenance import MAX_BUNDLE_BYTES, MAX_CERTIFICATES, Artifact, Provenance
from tintype.domain.values import Digest, DiskFormat, guest_digest, image_id, project_id
from tintype.trust.dsse import MAX_ENVELOPE_BYTES
from tintype.trust.json_forms import (
    VERIFICATION_FIELDS,
    origin_fields,
    read_origin,
    read_verification,
    verification_fields,
)
from tintype.trust.strict_json import Fields, JsonRefusal, base64_bytes, parsed, written

MEDIA_TYPE = "application/vnd.tintype.provenance.v1+json"

_FIELDS = frozenset(
    {
        *("mediaType", "image_id", "project", "sent", "published", "verification", "signature_properties"),
        *("certificates", "origin", "attestation", "attestation_key_id"),
    }
)
_ARTIFACT_FIELDS = frozenset({"size", "digests", "disk_format", "guest_digest", "compression"})
_ORIGIN_FIELDS = frozenset({"uri", "digest", "checksums_uri", "publisher_fingerprint"})


def write_bundle(provenance: Provenance) -> bytes:
    """The bundle's file.

    Raises:
        AttestationInvalidError: the attestation is no JSON object, and has no place in a bundle.
    """
    bundle: dict[str, object] = {
        "mediaType": MEDIA_TYPE,
        "image_id": provenance.image_id,
        "project": provenance.project,
        "sent": _artifact(provenance.sent),
        "published": _artifact(provenance.published),
        "verification": verification_fields(provenance.verification),
        "signature_properties": dict(provenance.signature_properties),
        "certificates": [base64.b64encode(each).decode() for each in provenance.certificates],
    }
    if provenance.origin is not None:
        bundle["origin"] = {"uri": provenance.origin.uri, **origin_fields(provenance.origin)}
    if provenance.attestation:
        try:
            bundle["attestation"] = parsed(provenance.attestation, MAX_ENVELOPE_BYTES).raw()
        except JsonRefusal as exc:
            raise AttestationInvalidError(f"the DSSE envelope cannot be read: {exc}") from exc
        bundle["attestation_key_id"] = provenance.attestation_key_id
    return written(bundle) + b"\n"


def read_bundle(content: bytes) -> Provenance:
    """What a bundle tells; nothing of it is proven.

    Raises:
        BundleInvalidError: it is none, is too large, or holds what is not known.
    """
    try:
        return _provenance(parsed(content, MAX_BUNDLE_BYTES))
    except (JsonRefusal, TintypeError, ValueError) as exc:
        raise BundleInvalidError(f"the bundle cannot be read: {exc}") from exc


def _provenance(bundle: Fields) -> Provenance:
    if (media_type := bundle.text("mediaType")) != MEDIA_TYPE:
        raise JsonRefusal(f"mediaType is {media_type[:80]!r}, and not {MEDIA_TYPE}")
    bundle.require_names(_FIELDS)
    certificates = bundle.texts("certificates")
    if len(certificates) > MAX_CERTIFICATES:
        raise JsonRefusal(f"it has more than {MAX_CERTIFICATES} certificates")
    properties = bundle.inner("signature_properties")
    properties.require_names(frozenset(SIGNATURE_PROPERTIES))
    return Provenance(
        image_id(bundle.text("image_id")),
        project_id(bundle.text("project")),
        _read_artifact(bundle.inner("sent")),
        _read_artifact(bundle.inner("published")),
        _read_verification(bundle.inner("verification")),
        bundle.text_map("signature_properties"),
        tuple(base64_bytes(each, "a certificate") for each in certificates),
        _read_origin(bundle.inner("origin")) if bundle.has("origin") else None,
        written(bundle.inner("attestation").raw()) if bundle.has("attestation") else b"",
        bundle.text("attestation_key_id", default=""),
    )


def _artifact(artifact: Artifact) -> dict[str, object]:
    optional = {
        "disk_format": str(artifact.disk_format or ""),
        "guest_digest": artifact.guest_digest,
        "compression": artifact.compression,
    }
    told = {name: value for name, value in optional.items() if value}
    return {"size": artifact.size, "digests": dict(artifact.digests), **told}


def _read_artifact(told: Fields) -> Artifact:
    told.require_names(_ARTIFACT_FIELDS)
    disk_format = told.text("disk_format", default="")
    return Artifact(
        told.integer("size"),
        {name: Digest.parse(f"{name}:{value}").hex for name, value in told.text_map("digests").items()},
        DiskFormat(disk_format) if disk_format else None,
        guest_digest(told.text("guest_digest", default="")),
        told.text("compression", default=""),
    )


def _read_origin(told: Fields) -> Origin:
    told.require_names(_ORIGIN_FIELDS)
    return read_origin(told.text("uri"), told)


def _read_verification(told: Fields) -> Verification:
    told.require_names(VERIFICATION_FIELDS)
    return read_verification(told)
