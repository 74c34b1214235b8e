"""What an import may be asked to fetch, as far as the words themselves tell. Pure.

Whether an address may be reached is decided by the importer, when the name is resolved and on every redirect.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from tintype.domain.checksums import file_name_of
from tintype.domain.errors import ImageTooLargeError, InvalidSizeError, InvalidUriError
from tintype.domain.events import ImportMethod, ImportSource, SignedChecksums
from tintype.domain.openpgp import publisher_certificates

MAX_URI_LENGTH = 2048

# RFC 3986 knows printable ASCII only; a backslash is where URL parsers disagree about the host.
_NOT_IN_A_URI = re.compile(r"[^\x21-\x7e]|\\")


def checked_source(source: ImportSource, *, max_size_bytes: int) -> ImportSource:
    """Return the source if it can be asked for.

    Raises:
        InvalidUriError: the method needs a URI, or must have none, or the URI is not one to fetch from.
        InvalidSizeError: the expected size is negative.
        ImageTooLargeError: the expected size is over the site's maximum.
        PublisherKeyError: a publisher's key is none, or a secret one.
    """
    if source.method is ImportMethod.GLANCE_DIRECT and source.uri:
        raise InvalidUriError("glance-direct takes the staged bytes, and no uri")
    if source.method is ImportMethod.WEB_DOWNLOAD:
        _check_uri(source.uri)
    if source.checksums is not None:
        _check_checksums(source, source.checksums)
    if source.expected_size is not None and source.expected_size < 0:
        raise InvalidSizeError(f"expected_size is {source.expected_size}, and must not be negative")
    if source.expected_size is not None and source.expected_size > max_size_bytes:
        raise ImageTooLargeError(f"{source.expected_size} bytes are expected; this site takes up to {max_size_bytes}")
    return source


def _check_checksums(source: ImportSource, checksums: SignedChecksums) -> None:
    if source.method is not ImportMethod.WEB_DOWNLOAD:
        raise InvalidUriError("a list of checksums names what is fetched: it goes with web-download only")
    file_name_of(source.uri)
    _check_uri(checksums.uri)
    if checksums.signature_uri:  # a list may hold its own signature
        _check_uri(checksums.signature_uri)
    publisher_certificates(checksums.publisher_key)


def _check_uri(uri: str) -> None:
    if not uri:
        raise InvalidUriError("web-download needs a uri")
    if len(uri) > MAX_URI_LENGTH:
        raise InvalidUriError(f"a uri has at most {MAX_URI_LENGTH} characters")
    if found := _NOT_IN_A_URI.search(uri):
        raise InvalidUriError(
            f"the uri's character {found.start() + 1} must be percent-encoded: only printable ASCII may stand as it is"
        )
    parts = _split(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidUriError(f"{uri[:80]!r} is not an absolute http or https URL")
    if "@" in parts.netloc:
        raise InvalidUriError("the uri must not hold credentials: every event of the image would show them")


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        if parts.port == 0:
            raise ValueError("port 0")
    except ValueError as exc:
        raise InvalidUriError(f"the uri is malformed: {str(exc)[:80]}") from None
    return parts
