"""What was staged, against what an import that comes later expects of it. Pure."""

from __future__ import annotations

from tintype.domain.errors import DigestMismatchError, InvalidDigestError, NothingStagedError, SizeMismatchError
from tintype.domain.events import ImportSource
from tintype.domain.image import Image
from tintype.domain.values import Blob, Received


def require_expected(image: Image, source: ImportSource) -> None:
    """Hold staged bytes, as they were sent, against what is expected of them: nobody will read them for it again.

    Raises:
        NothingStagedError: there are none.
        SizeMismatchError, DigestMismatchError: they are others.
        InvalidDigestError: the digest is of an algorithm that none was taken of.
    """
    operation = image.operation
    sent: Blob | Received | None = (operation.received or operation.staged) if operation else None
    if sent is None:
        raise NothingStagedError(f"image {image.id} has no staged bytes")
    if source.expected_size not in (None, sent.size):
        raise SizeMismatchError(f"{source.expected_size} bytes are expected, and {sent.size} were staged")
    expected = source.expected_digest
    if expected is None:
        return
    if expected.algorithm not in sent.digests:
        raise InvalidDigestError(
            f"no {expected.algorithm} digest was taken of the staged bytes: name it with the upload, "
            f"or one of {', '.join(sorted(sent.digests))} here"
        )
    if sent.digests[expected.algorithm] != expected.hex:
        raise DigestMismatchError(f"the staged bytes have another {expected.algorithm} digest than was expected")
