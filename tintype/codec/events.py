"""Events: the payload of each, and the envelope in which the catalog shows them."""

from __future__ import annotations

from typing import assert_never

from google.protobuf.message import Message

from tintype.api.events.v1 import events_pb2 as pb
from tintype.codec import values
from tintype.domain.errors import LogCorruptError
from tintype.domain.events import (
    EVENT_TOKENS,
    ConversionSkipped,
    CopyDamaged,
    CopyHealed,
    CopyRemoved,
    CopyRequested,
    Event,
    EventContext,
    ImageAttested,
    ImageConverted,
    ImageCreated,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImagePurged,
    ImageRestored,
    ImageStaged,
    ImageStepFailed,
    ImageUpdated,
    ImageVerified,
    ImportRequested,
    NewEvent,
    RecordedEvent,
    SandboxKind,
    SandboxProfile,
    SkipReason,
    StagePurpose,
    Verdict,
    Verification,
    VerificationEvidence,
)
from tintype.domain.values import CommandId, Digest, OperationId, guest_digest, image_id, operation_id, project_id

SKIP_REASON = values.EnumCodec("skip reason", {m: pb.SkipReason.Value(f"SKIP_REASON_{m.name}") for m in SkipReason})
STAGE_PURPOSE = values.EnumCodec(
    "stage purpose", {m: pb.StagePurpose.Value(f"STAGE_PURPOSE_{m.name}") for m in StagePurpose}
)
SANDBOX_KIND = values.EnumCodec(
    "sandbox kind", {m: pb.SandboxKind.Value(f"SANDBOX_KIND_{m.name}") for m in SandboxKind}
)
VERDICT = values.EnumCodec("verdict", {m: pb.Verdict.Value(f"VERDICT_{m.name}") for m in Verdict})

MESSAGES: dict[str, type[Message]] = {
    EVENT_TOKENS[ImageCreated]: pb.ImageCreated,
    EVENT_TOKENS[ImageUpdated]: pb.ImageUpdated,
    EVENT_TOKENS[ImportRequested]: pb.ImportRequested,
    EVENT_TOKENS[ImageStaged]: pb.ImageStaged,
    EVENT_TOKENS[ImageVerified]: pb.ImageVerified,
    EVENT_TOKENS[ImageConverted]: pb.ImageConverted,
    EVENT_TOKENS[ConversionSkipped]: pb.ConversionSkipped,
    EVENT_TOKENS[ImageAttested]: pb.ImageAttested,
    EVENT_TOKENS[CopyRequested]: pb.CopyRequested,
    EVENT_TOKENS[ImagePlaced]: pb.ImagePlaced,
    EVENT_TOKENS[ImagePublished]: pb.ImagePublished,
    EVENT_TOKENS[ImageStepFailed]: pb.ImageStepFailed,
    EVENT_TOKENS[CopyDamaged]: pb.CopyDamaged,
    EVENT_TOKENS[CopyHealed]: pb.CopyHealed,
    EVENT_TOKENS[CopyRemoved]: pb.CopyRemoved,
    EVENT_TOKENS[ImageDeleted]: pb.ImageDeleted,
    EVENT_TOKENS[ImageRestored]: pb.ImageRestored,
    EVENT_TOKENS[ImageExpired]: pb.ImageExpired,
    EVENT_TOKENS[ImagePurged]: pb.ImagePurged,
}
"""The message of each event's token."""


def encode_verification(verification: Verification) -> pb.Verification:
    """What the signer found."""
    return pb.Verification(
        verdict=VERDICT.encode(verification.verdict),
        digest=str(verification.digest or ""),
        certificate_id=verification.certificate_id,
        certificate_fingerprint=verification.certificate_fingerprint,
        certificate_subject=verification.certificate_subject,
        key_type=verification.key_type,
    )


def decode_verification(message: pb.Verification) -> Verification:
    """What the signer found.

    Raises:
        InvalidArgumentError: an unknown verdict or a malformed digest.
    """
    return Verification(
        verdict=VERDICT.decode(message.verdict),
        digest=values.decode_digest(message.digest),
        certificate_id=message.certificate_id,
        certificate_fingerprint=message.certificate_fingerprint,
        certificate_subject=message.certificate_subject,
        key_type=message.key_type,
    )


def _encode_evidence(evidence: VerificationEvidence | None) -> pb.VerificationEvidence | None:
    if evidence is None:
        return None
    return pb.VerificationEvidence(policy=evidence.policy, certificates=evidence.certificates)


def _decode_evidence(message: pb.VerificationEvidence) -> VerificationEvidence:
    return VerificationEvidence(message.policy, tuple(message.certificates))


def _encode_sandbox(sandbox: SandboxProfile | None) -> pb.SandboxProfile | None:
    if sandbox is None:
        return None
    kind = SANDBOX_KIND.encode(sandbox.kind)
    return pb.SandboxProfile(kind=kind, limits=sandbox.limits, seccomp=sandbox.is_seccomp_filtered)


def _decode_sandbox(message: pb.SandboxProfile) -> SandboxProfile:
    return SandboxProfile(SANDBOX_KIND.decode(message.kind), dict(message.limits), message.seccomp)


def encode_payload(event: Event) -> Message:
    """The message that an event's payload is."""
    match event:
        case ImageCreated(attributes):
            return pb.ImageCreated(attributes=values.encode_attributes(attributes))
        case ImageUpdated(attributes, changed):
            return pb.ImageUpdated(attributes=values.encode_attributes(attributes), changed=changed)
        case ImportRequested(operation, source, placement):
            return pb.ImportRequested(
                operation_id=operation,
                source=values.encode_source(source),
                placement=values.encode_placement(placement),
            )
        case ImageStaged():
            return _encode_staged(event)
        case ImageVerified(operation, verification, evidence):
            return pb.ImageVerified(
                operation_id=operation,
                verification=encode_verification(verification),
                evidence=_encode_evidence(evidence),
            )
        case ImageConverted(operation, blob, tool, tool_version, arguments, source_digest, sandbox):
            return pb.ImageConverted(
                operation_id=operation,
                blob=values.encode_blob(blob),
                tool=tool,
                tool_version=tool_version,
                arguments=arguments,
                source_guest_digest=source_digest or "",
                sandbox=_encode_sandbox(sandbox),
            )
        case ConversionSkipped(operation, why, facts, digest):
            return pb.ConversionSkipped(
                operation_id=operation,
                why=SKIP_REASON.encode(why),
                read_facts=values.encode_facts(facts),
                guest_digest=digest or "",
            )
        case ImageAttested(operation, key_id, envelope):
            return pb.ImageAttested(operation_id=operation, key_id=key_id, envelope=envelope)
        case CopyDamaged(ref, expected, found):
            return pb.CopyDamaged(ref=values.encode_ref(ref), expected=str(expected), found=str(found or ""))
        case CopyHealed(ref, source):
            return pb.CopyHealed(ref=values.encode_ref(ref), source=source)
        case CopyRequested(operation, placement):
            return pb.CopyRequested(operation_id=operation, placement=values.encode_placement(placement))
        case ImagePlaced(operation, copies, failed):
            return pb.ImagePlaced(
                operation_id=operation,
                copies=[values.encode_ref(ref) for ref in copies],
                failed_stores=values.encode_failed_stores(failed),
            )
        case CopyRemoved(ref):
            return pb.CopyRemoved(ref=values.encode_ref(ref))
        case ImagePublished(operation, blob, locations):
            refs = [values.encode_ref(ref) for ref in locations]
            return pb.ImagePublished(operation_id=operation, blob=values.encode_blob(blob), locations=refs)
        case ImageStepFailed(operation, step, failure):
            return pb.ImageStepFailed(
                operation_id=operation, step=values.STEP.encode(step), failure=values.encode_failure(failure)
            )
        case ImageDeleted(purge_after):
            return pb.ImageDeleted(purge_after=values.encode_time(purge_after) if purge_after else None)
        case ImageRestored(with_data):
            return pb.ImageRestored(with_data=with_data)
        case ImageExpired():
            return pb.ImageExpired()
        case ImagePurged():
            return pb.ImagePurged()
        case _:
            assert_never(event)


def _encode_staged(event: ImageStaged) -> pb.ImageStaged:
    return pb.ImageStaged(
        operation_id=event.operation_id,
        purpose=STAGE_PURPOSE.encode(event.purpose),
        blob=values.encode_blob(event.blob),
        received=values.encode_received(event.received),
        injected_properties=values.encode_properties(event.injected),
        switched_off=[values.IMPORT_PLUGIN.encode(plugin) for plugin in event.switched_off],
        origin=values.encode_origin(event.origin),
        placement=values.encode_placement(event.placement),
        copies=[values.encode_ref(ref) for ref in event.copies],
        failed_stores=values.encode_failed_stores(event.failed),
    )


def decode_payload(message: Message) -> Event:
    """The event that a message is.

    Raises:
        InvalidArgumentError: a field of no known value.
        LogCorruptError: a message that is no event's.
    """
    match message:
        case pb.ImageCreated():
            return ImageCreated(values.decode_attributes(message.attributes))
        case pb.ImageUpdated():
            return ImageUpdated(values.decode_attributes(message.attributes), tuple(message.changed))
        case pb.ImportRequested():
            return ImportRequested(
                _operation(message), values.decode_source(message.source), values.decode_placement(message.placement)
            )
        case pb.ImageStaged():
            return ImageStaged(
                _operation(message),
                STAGE_PURPOSE.decode(message.purpose),
                values.decode_blob(message.blob),
                values.decode_received(message.received) if message.HasField("received") else None,
                values.decode_properties(message.injected_properties),
                tuple(values.IMPORT_PLUGIN.decode(number) for number in message.switched_off),
                values.decode_origin(message.origin) if message.HasField("origin") else None,
                values.decode_placement(message.placement),
                tuple(values.decode_ref(ref) for ref in message.copies),
                values.decode_failed_stores(message.failed_stores),
            )
        case pb.ImageVerified():
            evidence = _decode_evidence(message.evidence) if message.HasField("evidence") else None
            return ImageVerified(_operation(message), decode_verification(message.verification), evidence)
        case pb.ImageConverted():
            return ImageConverted(
                _operation(message),
                values.decode_blob(message.blob),
                message.tool,
                message.tool_version,
                tuple(message.arguments),
                guest_digest(message.source_guest_digest),
                _decode_sandbox(message.sandbox) if message.HasField("sandbox") else None,
            )
        case pb.ConversionSkipped():
            return ConversionSkipped(
                _operation(message),
                SKIP_REASON.decode(message.why),
                values.decode_facts(message.read_facts),
                guest_digest(message.guest_digest),
            )
        case pb.ImageAttested():
            return ImageAttested(_operation(message), message.key_id, message.envelope)
        case pb.CopyDamaged():
            expected = Digest.parse(message.expected)
            return CopyDamaged(values.decode_ref(message.ref), expected, values.decode_digest(message.found))
        case pb.CopyHealed():
            return CopyHealed(values.decode_ref(message.ref), message.source)
        case pb.CopyRequested():
            return CopyRequested(_operation(message), values.decode_placement(message.placement))
        case pb.ImagePlaced():
            copies = tuple(values.decode_ref(ref) for ref in message.copies)
            return ImagePlaced(_operation(message), copies, values.decode_failed_stores(message.failed_stores))
        case pb.CopyRemoved():
            return CopyRemoved(values.decode_ref(message.ref))
        case pb.ImagePublished():
            locations = tuple(values.decode_ref(ref) for ref in message.locations)
            return ImagePublished(_operation(message), values.decode_blob(message.blob), locations)
        case pb.ImageStepFailed():
            step = values.STEP.decode(message.step)
            return ImageStepFailed(_operation(message), step, values.decode_failure(message.failure))
        case pb.ImageDeleted():
            return ImageDeleted(values.decode_time(message.purge_after) if message.HasField("purge_after") else None)
        case pb.ImageRestored():
            return ImageRestored(message.with_data)
        case pb.ImageExpired():
            return ImageExpired()
        case pb.ImagePurged():
            return ImagePurged()
        case _:
            raise LogCorruptError(f"{message.DESCRIPTOR.full_name} is not an event")


def _operation(
    message: pb.ImportRequested
    | pb.ImageStaged
    | pb.ImageVerified
    | pb.ImageConverted
    | pb.ConversionSkipped
    | pb.ImageAttested
    | pb.CopyRequested
    | pb.ImagePlaced
    | pb.ImagePublished
    | pb.ImageStepFailed,
) -> OperationId:
    return operation_id(message.operation_id)


def encode_event(recorded: RecordedEvent) -> pb.ImageEvent:
    """An event with its envelope."""
    event = recorded.event
    message = pb.ImageEvent(
        position=recorded.position,
        version=recorded.version,
        event_id=event.event_id,
        image_id=event.image_id,
        project=event.project,
        time=values.encode_time(event.time),
        actor=event.context.actor,
        command_id=event.command_id,
        correlation_id=event.context.correlation_id,
        causation_id=event.context.causation_id,
        traceparent=event.context.traceparent,
        previous_hash=recorded.previous_hash,
        hash=recorded.hash,
    )
    payload = getattr(message, EVENT_TOKENS[type(event.payload)])
    payload.SetInParent()
    payload.CopyFrom(encode_payload(event.payload))
    return message


def decode_event(message: pb.ImageEvent) -> RecordedEvent:
    """An event with its envelope.

    Raises:
        InvalidArgumentError: a field of no known value.
        LogCorruptError: there is no payload that this release knows.
    """
    token = message.WhichOneof("payload")
    if token is None:
        raise LogCorruptError(f"event {message.event_id} has no payload of a known type")
    event = NewEvent(
        image_id=image_id(message.image_id),
        project=project_id(message.project),
        command_id=CommandId(message.command_id),
        event_id=message.event_id,
        time=values.decode_time(message.time),
        payload=decode_payload(getattr(message, token)),
        context=EventContext(message.actor, message.correlation_id, message.causation_id, message.traceparent),
    )
    return RecordedEvent(event, message.version, message.position, message.previous_hash, message.hash)
