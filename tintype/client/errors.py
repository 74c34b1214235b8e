"""Every way in which a call of the SDK can fail, in one tree.

``reason`` is stable and machine-readable, ``hint`` says what to do, and ``retryable`` whether the same call may succeed
later without any change. ``evidence`` is what a refusal is based on, such as a certificate's fingerprint. Most reasons
come from the service, in the ``google.rpc.ErrorInfo`` of its answer; those that arise on this side are named here.

    ClientError
    ├── InvalidRequestError       the request itself is wrong
    ├── NotFoundError             no such thing, or not yours to see
    ├── AlreadyExistsError        it is there already
    ├── PreconditionError         not in this state
    ├── ConflictError             somebody else was faster
    ├── ContentError              the bytes are not what they should be
    │   ├── IntegrityError          … as this side found when it checked them
    │   └── OperationFailedError    … or an operation ended without them
    ├── SourceError               the place the bytes come from
    ├── NotPermittedError         not allowed
    ├── ExhaustedError            a limit is reached
    ├── ServiceUnavailableError   no answer, or none in time
    ├── UploadInterruptedError    an upload broke where it cannot be resumed
    ├── CancelledOperationError   ended on request
    ├── ServiceDefectError        a defect of the service, or damage to what it keeps
    ├── SigningKeyError           a private key on this side cannot be used, or must not
    └── ConfigurationError        the client does not know where the services are
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from tintype.client.models import Operation


class ClientError(Exception):
    """Root of the tree; ``str()`` is one sentence for the user."""

    default_reason: ClassVar[str] = "UNKNOWN"
    default_hint: ClassVar[str] = ""
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        hint: str | None = None,
        retryable: bool | None = None,
        evidence: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = self.default_reason if reason is None else reason
        self.hint = self.default_hint if hint is None else hint
        self.retryable = self.default_retryable if retryable is None else retryable
        self.evidence: Mapping[str, str] = evidence or {}


class InvalidRequestError(ClientError):
    """A field of the request is missing, malformed or out of bounds."""

    default_reason = "INVALID_ARGUMENT"


class NotFoundError(ClientError):
    """The named thing does not exist, or the caller may not see it."""

    default_reason = "NOT_FOUND"


class AlreadyExistsError(ClientError):
    """The thing to be made is there already."""

    default_reason = "ALREADY_EXISTS"


class PreconditionError(ClientError):
    """The image is not in a state that allows this."""

    default_reason = "FAILED_PRECONDITION"


class ConflictError(ClientError):
    """Somebody else changed the same thing meanwhile."""

    default_reason = "CONFLICT"
    default_retryable = True


class ContentError(ClientError):
    """The bytes are not what was promised, or are not safe."""

    default_reason = "CONTENT_REFUSED"


class IntegrityError(ContentError):
    """What arrived is not what the service says it sent, or what it keeps is damaged: stored bytes, or the log."""

    default_reason = "INTEGRITY"
    default_hint = "Nothing was kept. Try again; if it lasts, an operator should check the store and the log."


class OperationFailedError(ContentError):
    """An operation ended without giving its image the bytes; ``operation`` says how."""

    default_reason = "OPERATION_FAILED"

    def __init__(self, operation: Operation) -> None:
        failure = operation.failure
        super().__init__(
            failure.message if failure else f"operation {operation.id} failed",
            reason=failure.reason if failure else None,
            hint=failure.hint if failure else None,
            retryable=failure.retryable if failure else None,
            evidence=failure.evidence if failure else None,
        )
        self.operation = operation


class SourceError(ClientError):
    """The bytes could not be had from where they should come."""

    default_reason = "SOURCE_FAILED"


class NotPermittedError(ClientError):
    """The caller may not do this."""

    default_reason = "NOT_PERMITTED"


class ExhaustedError(ClientError):
    """A limit is reached."""

    default_reason = "EXHAUSTED"


class ServiceUnavailableError(ClientError):
    """A service, or something that it needs, does not answer; the same call may succeed later."""

    default_reason = "UNAVAILABLE"
    default_hint = "Is the stack running? The configuration says where the services are expected."
    default_retryable = True


class UploadInterruptedError(ClientError):
    """An upload broke, and its source cannot go back to where the service wants to go on."""

    default_reason = "UPLOAD_INTERRUPTED"
    default_hint = "Upload again, from a file if it can be: a file is read again from any place."


class CancelledOperationError(ClientError):
    """The work was ended on request."""

    default_reason = "CANCELLED"


class ServiceDefectError(ClientError):
    """A defect of the service, damage to what it keeps, or an answer that this client does not understand."""

    default_reason = "INTERNAL"
    default_hint = "Please report it, with the service's log."


class SigningKeyError(ClientError):
    """A private key on this side cannot be used: others may read it, or it is not what it should be."""

    default_reason = "KEY_UNREADABLE"


class ConfigurationError(ClientError):
    """The client's configuration is missing or wrong."""

    default_reason = "CLIENT_CONFIGURATION"
    default_hint = "`tintype up` writes a client.toml; name it with --config or TINTYPE_CONFIG."


def trust_extra_missing(error: ModuleNotFoundError) -> ConfigurationError:
    """What to say where signatures are made or verified without the packages that it takes."""
    return ConfigurationError(
        f"signatures cannot be made or verified here: the module {error.name} is not installed",
        reason="EXTRA_MISSING",
        hint="Install the extra: pip install 'tintype[trust]'.",
    )


def every_error() -> Iterator[type[ClientError]]:
    """All classes of the tree, parents first."""
    found: list[type[ClientError]] = [ClientError]
    for parent in found:
        found.extend(parent.__subclasses__())
        yield parent
