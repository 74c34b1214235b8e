"""Every reason of the service becomes an error of the SDK, and no status is without one."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2
from grpc_status import rpc_status

from tintype.client import errors, statuses
from tintype.domain import errors as domain
from tintype.runtime.error_table import to_rpc_status


def rpc_error(
    code: grpc.StatusCode, details: str = "", trailers: tuple[tuple[str, bytes], ...] = ()
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details)


@pytest.mark.parametrize("kind", list(domain.every_error())[1:])
def test_every_error_of_the_service_keeps_its_category_reason_and_hint(kind: type[domain.TintypeError]) -> None:
    sent = kind("what happened")
    status = rpc_status.to_status(to_rpc_status(sent))
    received = statuses.from_rpc_error(rpc_error(status.code, status.details, tuple(status.trailing_metadata)))

    category = next(cls for cls in kind.__mro__ if cls in statuses.BY_CATEGORY)
    assert type(received) is statuses.BY_CATEGORY[category]
    assert (received.reason, received.hint, received.retryable) == (sent.reason, sent.hint, sent.retryable)
    assert str(received) == "what happened"


def test_what_a_refusal_is_based_on_arrives() -> None:
    evidence = {"certificate_subject": "CN=Jörg", "policy": "ab" * 32}
    status = rpc_status.to_status(to_rpc_status(domain.SignerNotAllowedError("no", evidence=evidence)))
    received = statuses.from_rpc_error(rpc_error(status.code, status.details, tuple(status.trailing_metadata)))
    assert received.evidence == evidence
    assert statuses.from_domain(domain.SignerNotAllowedError("no", evidence=evidence)).evidence == evidence


def test_every_category_of_the_service_is_mapped() -> None:
    assert set(domain.TintypeError.__subclasses__()) <= set(statuses.BY_CATEGORY)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_a_plain_status_becomes_an_error(code: grpc.StatusCode) -> None:
    error = statuses.from_rpc_error(rpc_error(code))

    assert error.reason
    assert error.message


def test_no_answer_is_unavailable_and_may_be_repeated() -> None:
    error = statuses.from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, "connection refused"))

    assert isinstance(error, errors.ServiceUnavailableError)
    assert (error.reason, error.retryable) == ("UNAVAILABLE", True)
    assert error.hint == errors.ServiceUnavailableError.default_hint


def test_a_certificate_that_is_not_believed_is_told_from_a_service_that_is_away() -> None:
    told = "Tls handshake failed: OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate"
    error = statuses.from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, told))

    assert isinstance(error, errors.ServiceUnavailableError)
    assert "`ca` of client.toml" in error.hint


@pytest.mark.parametrize("value", [b"\xff\xff\xff", b"", status_pb2.Status(code=5).SerializeToString()])
def test_details_that_say_nothing_are_passed_over(value: bytes) -> None:
    error = statuses.from_rpc_error(rpc_error(grpc.StatusCode.NOT_FOUND, "gone", (("grpc-status-details-bin", value),)))

    assert type(error) is errors.NotFoundError
    assert error.reason == "NOT_FOUND"


def test_the_tree_in_the_docstring_names_every_class() -> None:
    for kind in errors.every_error():
        assert kind.__name__ in (errors.__doc__ or "")
