"""What one response says of the file: its size, whether it goes on where another one broke off, where it is instead.

Headers only; every value is the server's claim, and is believed no further than the bytes bear it out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.importer.sources.addresses import Target, redirected
from tintype.domain.errors import (
    ImageTooLargeError,
    InvalidUriError,
    SizeMismatchError,
    SourceEncodingError,
    SourceInterruptedError,
    SourceNotFoundError,
    SourceRedirectError,
    SourceServerError,
)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_LATER = frozenset({408, 425, 429})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Body:
    """What a body holds: the file's bytes from ``offset`` on. Sizes in bytes, ``None`` where the server does not say.

    ``validator`` is what If-Range takes (RFC 9110, 13.1.5): a strong entity tag, or else the time of the last change.
    """

    total_size: int | None
    offset: int
    validator: str

    @property
    def is_resumable(self) -> bool:
        """Whether the rest could be asked for after an interruption, and recognised."""
        return bool(self.validator) and self.total_size is not None


def is_redirect(status: int) -> bool:
    """Whether the answer is that the file is elsewhere."""
    return status in _REDIRECTS


def next_target(target: Target, headers: Mapping[str, str]) -> Target:
    """Where the answer leads.

    Raises:
        SourceRedirectError: nowhere.
        SourceForbiddenError: to what is not fetched.
    """
    location = headers.get("Location", "")
    if not location:
        raise SourceRedirectError("the server redirected without saying where to")
    try:
        return redirected(target, location)
    except InvalidUriError as exc:
        raise SourceRedirectError(f"the server redirected to what cannot be fetched: {exc.message}") from exc


def require_success(status: int, target: Target) -> None:
    """Check that the answer is the file, or a part of it.

    Raises:
        SourceNotFoundError: the server has it not, or gives it not.
        SourceServerError: it has another trouble.
    """
    if status in (200, 206):
        return
    if 400 <= status < 500 and status not in _TRY_LATER:
        raise SourceNotFoundError(f"{target} answered with status {status}")
    raise SourceServerError(f"{target} answered with status {status}")


def whole_body(status: int, headers: Mapping[str, str]) -> Body:
    """The body that answers a request for the whole file.

    Raises:
        SourceServerError: it is only a part.
        SourceEncodingError: it is compressed on its way.
    """
    _require_identity(headers)
    if status != 200:
        raise SourceServerError("the server sent a part of the file where the whole was asked for")
    return Body(_content_length(headers), 0, _validator(headers))


def body_of_rest(status: int, headers: Mapping[str, str], first: Body, received: int) -> Body:
    """The body that answers a request for the bytes from ``received`` on; it may be the whole file again.

    Raises:
        SourceInterruptedError: it is of another file than ``first`` was, or of another part.
        SourceEncodingError: it is compressed on its way.
    """
    _require_identity(headers)
    if status == 200:
        again = Body(_content_length(headers), 0, _validator(headers))
        if again != first:
            raise SourceInterruptedError("the connection broke, and the file is another one meanwhile")
        return again
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if not found or (int(found[1]), int(found[3])) != (received, first.total_size):
        raise SourceInterruptedError("the connection broke, and the server did not send the rest that was asked for")
    return Body(first.total_size, received, first.validator)


def require_announced(body: Body, max_size: int, expected_size: int | None) -> None:
    """Check the announced size, before the first byte is taken.

    Raises:
        ImageTooLargeError: more than the site allows.
        SizeMismatchError: not what the user said.
    """
    if body.total_size is None:
        return
    if body.total_size > max_size:
        raise ImageTooLargeError(f"the file has {body.total_size} bytes; this site takes up to {max_size}")
    if expected_size is not None and body.total_size != expected_size:
        raise SizeMismatchError(f"the file has {body.total_size} bytes, not {expected_size}")


def _require_identity(headers: Mapping[str, str]) -> None:
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceEncodingError(f"the server sends the file with Content-Encoding {encoding[:40]!r}")


def _content_length(headers: Mapping[str, str]) -> int | None:
    # RFC 9112, 6.3: with a Transfer-Encoding, Content-Length means nothing.
    if "Transfer-Encoding" in headers or "Content-Length" not in headers:
        return None
    text = headers["Content-Length"].strip()
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise SourceServerError("the server announces a size that is no number")
    return int(text)


def _validator(headers: Mapping[str, str]) -> str:
    if headers.get("Accept-Ranges", "").strip().lower() == "none":
        return ""
    tag = headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]{0,256}"', tag):  # strong: a weak one begins with W/
        return tag
    return headers.get("Last-Modified", "") if not tag else ""
