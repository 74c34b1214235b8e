"""What the exit code of a command means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

from tintype.domain import errors

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
    NOT_WELL = 7
    OTHER_FORMAT = 10
    UNSAFE_REFERENCE = 11
    MALFORMED = 12
    TOO_LARGE = 13
    ARCHIVE = 14
    UNSUPPORTED = 15
    INTERRUPTED = 130


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: "the service refused or failed, or a local file could not be read or written",
    ExitCode.USAGE: "wrong usage, or no configuration",
    ExitCode.NOT_FOUND: "no such image, operation, upload, checkpoint or store",
    ExitCode.CONFLICT: "not in this state, or somebody else was faster",
    ExitCode.CONTENT: "the bytes were refused or are damaged, or an operation failed",
    ExitCode.UNAVAILABLE: "a service does not answer",
    ExitCode.NOT_WELL: "status: something does not work",
    ExitCode.OTHER_FORMAT: "inspect: another format than declared, or of two formats at once",
    ExitCode.UNSAFE_REFERENCE: "inspect: the image refers to other files: a backing or data file, an extent, a parent",
    ExitCode.MALFORMED: "inspect: malformed, truncated or empty",
    ExitCode.TOO_LARGE: "inspect: too large, or it grows to far more than it is",
    ExitCode.ARCHIVE: "inspect: an archive that leads out of itself, or does not hold just what it should",
    ExitCode.UNSUPPORTED: "inspect: sound as far as can be told, and of a variant that is not taken",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}


def exit_code_list(codes: Iterable[ExitCode]) -> str:
    """The end of a help text: what each of the ``codes`` means."""
    return "\b\nExit codes:\n" + "\n".join(f"  {code.value:<4} {MEANINGS[code]}" for code in codes)


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


REFUSALS: Mapping[type[errors.RefusedContentError], ExitCode] = {
    errors.FormatMismatchError: ExitCode.OTHER_FORMAT,
    errors.UnsafeBackingFileError: ExitCode.UNSAFE_REFERENCE,
    errors.UnsafeDataFileError: ExitCode.UNSAFE_REFERENCE,
    errors.UnsafeExtentError: ExitCode.UNSAFE_REFERENCE,
    errors.DifferencingDiskError: ExitCode.UNSAFE_REFERENCE,
    errors.EmptyImageError: ExitCode.MALFORMED,
    errors.MalformedImageError: ExitCode.MALFORMED,
    errors.TruncatedError: ExitCode.MALFORMED,
    errors.VirtualSizeTooLargeError: ExitCode.TOO_LARGE,
    errors.AllocationRatioError: ExitCode.TOO_LARGE,
    errors.DecompressionBombError: ExitCode.TOO_LARGE,
    errors.ArchiveTraversalError: ExitCode.ARCHIVE,
    errors.ArchiveContentError: ExitCode.ARCHIVE,
    errors.ManifestMismatchError: ExitCode.ARCHIVE,
    errors.UnsafeXmlError: ExitCode.ARCHIVE,
    errors.EncryptedImageError: ExitCode.UNSUPPORTED,
    errors.UnsupportedImageError: ExitCode.UNSUPPORTED,
}
"""The class of each refusal that an inspection may end with."""


def refusal_code(refusal: errors.RefusedContentError) -> ExitCode:
    """The exit code for a refused image."""
    return next((REFUSALS[kind] for kind in type(refusal).__mro__ if kind in REFUSALS), ExitCode.CONTENT)
