"""What an attestation says: an in-toto Statement v1 with SLSA provenance v1 about the road of an image's bytes.

``docs/provenance.md`` defines every field for other implementations. The same road makes the same text, byte for byte;
readers ignore fields that they do not know, as in-toto asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC

from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement

from tintype.domain.errors import AttestationInvalidError, EventTooLargeError, InternalError, TintypeError
from tintype.domain.events import (
    ConversionSkipped,
    ImageConverted,
    ImageVerified,
    Origin,
    SandboxKind,
    SandboxProfile,
    SkipReason,
    Verification,
)
from tintype.domain.provenance import Artifact, Road
from tintype.domain.values import (
    Digest,
    DiskFormat,
    ImageId,
    OperationId,
    ProjectId,
    guest_digest,
    image_id,
    operation_id,
    project_id,
)
from tintype.trust.json_forms import origin_fields, read_origin, read_verification, verification_fields
from tintype.trust.strict_json import Fields, JsonRefusal, parsed, written

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://tintype.io/provenance/image-road/v1"
BUILDER_ID = "https://tintype.io/provenance/signer/v1"
SENT = "sent"
MAX_STATEMENT_BYTES = 512 * 1024
"""In its envelope, in base64, it has to fit into one event."""


@dataclass(frozen=True, slots=True)
class LogPlace:
    """The event that ended the conversion: its position in the log, its version in the image's history, its hash."""

    position: int
    version: int
    hash: str


@dataclass(frozen=True, slots=True)
class Converted:
    """With what the published bytes were made, and how that was confined."""

    tool: str
    version: str
    arguments: tuple[str, ...]
    sandbox: SandboxProfile | None


@dataclass(frozen=True, slots=True)
class Attested:
    """What a statement says. ``conversion`` is the reason where nothing was converted."""

    image_id: ImageId
    project: ProjectId
    operation_id: OperationId
    method: str
    sent: Artifact
    published: Artifact
    origin: Origin | None
    conversion: Converted | SkipReason
    verification: Verification
    policy: str
    log: LogPlace


# --- writing ----------------------------------------------------------------------------------------------------------


def statement_of(road: Road, release: str) -> bytes:
    """The statement about a road, in JSON; ``release`` is Tintype's, which signs it.

    Raises:
        EventTooLargeError: it would not fit into the log.
    """
    subject = _descriptor(road.image_id, road.published)
    predicate = {"buildDefinition": _build_definition(road), "runDetails": _run_details(road, release)}
    _require_valid(subject, predicate)
    statement = {
        "_type": STATEMENT_TYPE_URI,
        "subject": [subject],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    text = written(statement)
    if len(text) > MAX_STATEMENT_BYTES:
        raise EventTooLargeError(f"the statement about image {road.image_id} has {len(text)} bytes")
    return text


def _build_definition(road: Road) -> dict[str, object]:
    recorded = road.conversion
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "image_id": road.image_id,
            "project": road.project,
            "operation_id": road.operation_id,
            "method": road.method,
        },
        "internalParameters": {
            "conversion": _conversion(road),
            "verification": _verification(road.verified),
            "log": {"position": recorded.position, "version": recorded.version, "hash": recorded.hash},
        },
        "resolvedDependencies": [_descriptor(SENT, road.sent, road.staged.origin)],
    }


def _run_details(road: Road, release: str) -> dict[str, object]:
    return {
        "builder": {"id": BUILDER_ID, "version": {"tintype": release}},
        "metadata": {
            "invocationId": road.operation_id,
            "finishedOn": road.conversion.event.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        },
    }


def _descriptor(name: str, artifact: Artifact, origin: Origin | None = None) -> dict[str, object]:
    """An in-toto ResourceDescriptor."""
    annotations: dict[str, object] = {"size": artifact.size}
    if artifact.disk_format is not None:
        annotations["disk_format"] = str(artifact.disk_format)
    if artifact.guest_digest is not None:
        annotations["guest_digest"] = artifact.guest_digest
    if artifact.compression:
        annotations["compression"] = artifact.compression
    descriptor: dict[str, object] = {"name": name, "digest": dict(artifact.digests), "annotations": annotations}
    if origin is not None:
        descriptor["uri"] = origin.uri
        annotations["origin"] = origin_fields(origin)
    return descriptor


def _conversion(road: Road) -> dict[str, object]:
    made = road.conversion.payload
    if isinstance(made, ConversionSkipped):
        return {"skipped": str(made.why)}
    if not isinstance(made, ImageConverted):
        raise InternalError(f"{type(made).__name__} ends no conversion")
    conversion: dict[str, object] = {
        "tool": made.tool,
        "version": made.tool_version,
        "arguments": list(made.arguments),
    }
    if made.sandbox is not None:
        conversion["sandbox"] = {
            "kind": str(made.sandbox.kind),
            "limits": dict(made.sandbox.limits),
            "seccomp": made.sandbox.is_seccomp_filtered,
        }
    return conversion


def _verification(verified: ImageVerified) -> dict[str, object]:
    policy = verified.evidence.policy if verified.evidence else ""
    return verification_fields(verified.verification) | ({"policy": policy} if policy else {})


def _require_valid(subject: Mapping[str, object], predicate: Mapping[str, object]) -> None:
    """What is signed is what in-toto's own library takes."""
    descriptor = ResourceDescriptor(name=str(subject["name"]), digest=subject["digest"])
    try:
        Statement([descriptor.pb], PREDICATE_TYPE, dict(predicate)).validate()
    except ValueError as exc:
        raise InternalError(f"the statement is none: {exc}") from exc


# --- reading ----------------------------------------------------------------------------------------------------------


def read_statement(payload: bytes) -> Attested:
    """What a statement says; whoever signed it is for the caller to know.

    Raises:
        AttestationInvalidError: it is no in-toto Statement, not SLSA provenance, not about such a road, or malformed.
    """
    try:
        return _attested(parsed(payload, MAX_STATEMENT_BYTES))
    except (JsonRefusal, TintypeError, ValueError) as exc:
        raise AttestationInvalidError(f"the statement cannot be read: {exc}") from exc


def _attested(statement: Fields) -> Attested:
    _require(statement, "_type", STATEMENT_TYPE_URI)
    _require(statement, "predicateType", PREDICATE_TYPE)
    definition = statement.inner("predicate").inner("buildDefinition")
    _require(definition, "buildType", BUILD_TYPE)
    subjects, dependencies = statement.objects("subject"), definition.objects("resolvedDependencies")
    sent = next((each for each in dependencies if each.text("name", default="") == SENT), None)
    if len(subjects) != 1 or sent is None:
        raise JsonRefusal("it has not one subject, made of what was sent")
    asked, internal = definition.inner("externalParameters"), definition.inner("internalParameters")
    name = image_id(subjects[0].text("name"))
    if image_id(asked.text("image_id")) != name:
        raise JsonRefusal("it names two images")
    found, place = internal.inner("verification"), internal.inner("log")
    return Attested(
        name,
        project_id(asked.text("project")),
        operation_id(asked.text("operation_id")),
        asked.text("method"),
        _artifact(sent),
        _artifact(subjects[0]),
        _origin(sent),
        _read_conversion(internal.inner("conversion")),
        read_verification(found),
        found.text("policy", default=""),
        LogPlace(place.integer("position"), place.integer("version"), place.text("hash")),
    )


def _artifact(descriptor: Fields) -> Artifact:
    annotations = descriptor.inner("annotations")
    digests = descriptor.text_map("digest")
    for algorithm, value in digests.items():
        Digest.parse(f"{algorithm}:{value}")
    disk_format = annotations.text("disk_format", default="")
    return Artifact(
        annotations.integer("size"),
        digests,
        DiskFormat(disk_format) if disk_format else None,
        guest_digest(annotations.text("guest_digest", default="")),
        annotations.text("compression", default=""),
    )


def _origin(descriptor: Fields) -> Origin | None:
    annotations = descriptor.inner("annotations")
    if not annotations.has("origin"):
        return None
    return read_origin(descriptor.text("uri"), annotations.inner("origin"))


def _read_conversion(told: Fields) -> Converted | SkipReason:
    if told.has("skipped"):
        return SkipReason(told.text("skipped"))
    sandbox = None
    if told.has("sandbox"):
        profile = told.inner("sandbox")
        kind, limits = SandboxKind(profile.text("kind")), profile.integer_map("limits")
        sandbox = SandboxProfile(kind, limits, profile.flag("seccomp"))
    return Converted(told.text("tool"), told.text("version"), told.texts("arguments"), sandbox)


def _require(fields: Fields, name: str, wanted: str) -> None:
    if (found := fields.text(name)) != wanted:
        raise JsonRefusal(f"{name} is {found[:80]!r}, and not {wanted}")
