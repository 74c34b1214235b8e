"""Every error has a status and a reason of its own."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from tintype.domain import errors
from tintype.runtime.error_table import (
    MAX_EVIDENCE,
    MAX_EVIDENCE_BYTES,
    MAX_MESSAGE_CHARACTERS,
    STATUS,
    status_code,
    to_rpc_status,
)

# An adapter may refine a class for itself; what leaves it has the reason of its parent.
ALL_ERRORS = [error for error in errors.every_error() if error.__module__ == errors.__name__]


def test_every_category_has_a_status_of_its_own() -> None:
    missing = [cls.__name__ for cls in errors.TintypeError.__subclasses__() if cls not in STATUS]
    assert missing == []


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_every_error_has_a_status(error: type[errors.TintypeError]) -> None:
    assert isinstance(status_code(error), grpc.StatusCode)
    assert status_code(error) is not grpc.StatusCode.OK
    assert status_code(error) is not grpc.StatusCode.UNKNOWN


def test_reasons_are_unique() -> None:
    seen: dict[str, type[errors.TintypeError]] = {}
    for error in ALL_ERRORS:
        # The root has the reason of InternalError: a bare TintypeError is a defect.
        if error is not errors.TintypeError:
            assert error.reason not in seen, f"{error.__name__} has the reason of {seen[error.reason].__name__}"
            seen[error.reason] = error


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_every_error_states_its_own_reason(error: type[errors.TintypeError]) -> None:
    assert "reason" in vars(error)
    assert error.reason == error.reason.upper()


@pytest.mark.parametrize("error", [error for error in ALL_ERRORS if error is not errors.TintypeError])
def test_every_error_says_what_to_do(error: type[errors.TintypeError]) -> None:
    assert error.hint.endswith(".")


def test_status_carries_reason_hint_and_retryability() -> None:
    status = to_rpc_status(errors.SourceUnreachableError("no answer"))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert status.code == code_pb2.FAILED_PRECONDITION
    assert status.message == "no answer"
    assert (info.reason, info.domain) == ("SOURCE_UNREACHABLE", "tintype")
    assert info.metadata["retryable"] == "true"


def test_long_message_is_cut_to_what_trailers_can_carry() -> None:
    assert len(to_rpc_status(errors.InternalError("ö" * 10_000)).message) == MAX_MESSAGE_CHARACTERS


def test_evidence_is_cut_to_what_trailers_can_carry() -> None:
    evidence = {f"name{number:02}": "ö" * 10_000 for number in range(20)}
    info = error_details_pb2.ErrorInfo()
    assert to_rpc_status(errors.SignerNotAllowedError("no", evidence=evidence)).details[0].Unpack(info)
    kept = {name: value for name, value in info.metadata.items() if name.startswith("evidence.")}
    assert len(kept) == MAX_EVIDENCE
    assert {len(value.encode()) for value in kept.values()} == {MAX_EVIDENCE_BYTES}
