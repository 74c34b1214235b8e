"""What the exit code of a command means."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tintype.client import ClientError


class ExitCode(IntEnum):
    """The exit codes, for ever the same."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    CONTENT = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: "the service refused or failed, or a local file could not be read or written",
    ExitCode.USAGE: "wrong usage, or no configuration",
    ExitCode.NOT_FOUND: "no such image, operation or upload",
    ExitCode.CONFLICT: "not in this state, or somebody else was faster",
    ExitCode.CONTENT: "the bytes were refused or are damaged, or an operation failed",
    ExitCode.UNAVAILABLE: "a service does not answer",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}


def exit_code(error: ClientError) -> ExitCode:
    """The exit code for an error of the SDK."""
    from tintype import client

    classes: tuple[tuple[type[ClientError], ExitCode], ...] = (
        (client.ConfigurationError, ExitCode.USAGE),
        (client.NotFoundError, ExitCode.NOT_FOUND),
        (client.AlreadyExistsError, ExitCode.CONFLICT),
        (client.PreconditionError, ExitCode.CONFLICT),
        (client.ConflictError, ExitCode.CONFLICT),
        (client.ContentError, ExitCode.CONTENT),
        (client.CancelledOperationError, ExitCode.CONTENT),
        (client.SourceError, ExitCode.CONTENT),
        (client.ServiceUnavailableError, ExitCode.UNAVAILABLE),
        (client.UploadInterruptedError, ExitCode.UNAVAILABLE),
    )
    for kind, code in classes:
        if isinstance(error, kind):
            return code
    return ExitCode.REFUSED
