"""What an import may be asked to fetch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.catalog.import_sources import checked_source
from tintype.domain.errors import (
    ImageTooLargeError,
    InvalidSizeError,
    InvalidUriError,
    PublisherKeyError,
    TintypeError,
)
from tintype.domain.events import ImportMethod, ImportSource, SignedChecksums

MAX = 1000


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/disk.qcow2",
        "http://example.org:8080/a%20b?x=1&y=2",
        "HTTPS://EXAMPLE.ORG",
        "http://[2001:db8::1]/disk",
        "http://127.0.0.1/",  # whether it may be reached is the importer's to decide
    ],
)
def test_absolute_http_urls_are_taken(uri: str) -> None:
    source = ImportSource(ImportMethod.WEB_DOWNLOAD, uri, MAX)
    assert checked_source(source, max_size_bytes=MAX) is source


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "disk.qcow2",
        "/etc/passwd",
        "//example.org/disk",
        "file:///dev/zero",
        "ftp://example.org/disk",
        "http://",
        "http:///disk",
        "http:example.org",
        "http://user:secret@example.org/disk",
        "http://user@example.org/disk",
        "http://@example.org/disk",
        "http://example.org/a b",
        "http://example.org/a\r\nHost: x",
        "http://example.org/\x00",
        "http://example.org\\@internal/",
        "http://exämple.org/",
        "http://[::1/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://example.org:port/",
        "http://example.org/" + "x" * 2048,
    ],
)
def test_every_other_uri_is_refused(uri: str) -> None:
    with pytest.raises(InvalidUriError) as caught:
        checked_source(ImportSource(ImportMethod.WEB_DOWNLOAD, uri), max_size_bytes=MAX)
    assert "secret" not in caught.value.message


def test_staged_bytes_have_no_uri() -> None:
    staged = ImportSource(ImportMethod.GLANCE_DIRECT)
    assert checked_source(staged, max_size_bytes=MAX) is staged
    with pytest.raises(InvalidUriError):
        checked_source(ImportSource(ImportMethod.GLANCE_DIRECT, "http://example.org/"), max_size_bytes=MAX)


@pytest.mark.parametrize(
    ("size", "refusal"), [(-1, InvalidSizeError), (MAX + 1, ImageTooLargeError), (2**63 - 1, ImageTooLargeError)]
)
def test_an_expected_size_is_within_the_site_s_limit(size: int, refusal: type[TintypeError]) -> None:
    with pytest.raises(refusal):
        checked_source(ImportSource(ImportMethod.GLANCE_DIRECT, "", size), max_size_bytes=MAX)


KEY = b"\xc6\x03\x04ab"
SUMS = SignedChecksums("https://example.org/SUMS", "https://example.org/SUMS.sign", KEY)


def asked(checksums: SignedChecksums, uri: str = "https://example.org/disk.raw") -> ImportSource:
    return ImportSource(ImportMethod.WEB_DOWNLOAD, uri, checksums=checksums)


@pytest.mark.parametrize("checksums", [SUMS, replace(SUMS, signature_uri="")])
def test_a_signed_list_is_taken(checksums: SignedChecksums) -> None:
    source = asked(checksums)
    assert checked_source(source, max_size_bytes=MAX) is source


@pytest.mark.parametrize(
    ("source", "refusal"),
    [
        (asked(replace(SUMS, uri="")), InvalidUriError),
        (asked(replace(SUMS, uri="file:///etc/passwd")), InvalidUriError),
        (asked(replace(SUMS, signature_uri="SUMS.sign")), InvalidUriError),
        (asked(replace(SUMS, signature_uri="https://user:secret@example.org/")), InvalidUriError),
        (asked(SUMS, "https://example.org/images/"), InvalidUriError),
        (ImportSource(ImportMethod.GLANCE_DIRECT, checksums=SUMS), InvalidUriError),
        (asked(replace(SUMS, publisher_key=b"")), PublisherKeyError),
        (asked(replace(SUMS, publisher_key=b"key")), PublisherKeyError),
        (asked(replace(SUMS, publisher_key=KEY * 20_000)), PublisherKeyError),
        (asked(replace(SUMS, publisher_key=b"\xc5\x03\x04ab")), PublisherKeyError),
        (asked(replace(SUMS, publisher_key=KEY + b"\xc7\x03\x04ab")), PublisherKeyError),
        (asked(replace(SUMS, publisher_key=b"-----BEGIN PGP PRIVATE KEY BLOCK-----")), PublisherKeyError),
    ],
)
def test_a_signed_list_that_cannot_be_asked_for_is_refused(source: ImportSource, refusal: type[TintypeError]) -> None:
    with pytest.raises(refusal):
        checked_source(source, max_size_bytes=MAX)
