"""What a service tells of itself, and the messages that carry it."""

from __future__ import annotations

from tintype.api.runtime.v1 import runtime_pb2 as pb
from tintype.codec import values
from tintype.ports.service_info import Certificate, Check, ServiceInfo


def encode(info: ServiceInfo) -> pb.ServiceInfo:
    """The message of a replica."""
    return pb.ServiceInfo(
        service=info.service,
        version=info.version,
        instance=info.instance,
        started_at=values.encode_time(info.started_at),
        ready=info.ready,
        checks=[_encode_check(check) for check in info.checks],
        certificates=[
            pb.Certificate(file=each.file, expires_at=values.encode_time(each.expires_at)) for each in info.certificates
        ],
    )


def decode(message: pb.ServiceInfo) -> ServiceInfo:
    """The replica that a message tells of.

    Raises:
        InvalidArgumentError: a time is beyond the years 1 to 9999.
    """
    return ServiceInfo(
        service=message.service,
        version=message.version,
        instance=message.instance,
        started_at=values.decode_time(message.started_at),
        ready=message.ready,
        checks=tuple(_decode_check(check) for check in message.checks),
        certificates=tuple(
            Certificate(each.file, values.decode_time(each.expires_at)) for each in message.certificates
        ),
    )


def _encode_check(check: Check) -> pb.Check:
    return pb.Check(
        name=check.name,
        ok=check.ok,
        required=check.required,
        failure=values.encode_failure(check.failure),
        since=values.encode_time(check.since),
    )


def _decode_check(message: pb.Check) -> Check:
    failure = values.decode_failure(message.failure) if message.HasField("failure") else None
    return Check(message.name, message.ok, message.required, failure, values.decode_time(message.since))
