"""Lists of checksums: what is read of them, and what refuses them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.domain.checksums import MAX_LIST_BYTES, file_name_of, listed_digest
from tintype.domain.errors import ChecksumsIncompleteError, ChecksumsMalformedError, InvalidUriError
from tintype.domain.values import Digest

HEX = "0123456789abcdef" * 4
OTHER = "f" * 64
WANTED = Digest("sha256", HEX)


@pytest.mark.parametrize(
    "content",
    [
        f"{HEX}  disk.qcow2\n",
        f"{HEX}  disk.qcow2",
        f"{HEX} *disk.qcow2\n",
        f"{HEX.upper()}  disk.qcow2\n",
        f"{HEX}  ./disk.qcow2\n",
        f"{HEX}  disk.qcow2\r\n",
        f"\ufeff{HEX}  disk.qcow2\n",
        f"SHA256 (disk.qcow2) = {HEX}\n",
        f"SHA256 (./disk.qcow2) = {HEX}\r\n",
        f"# disk.qcow2: 4 bytes\n\n   \nSHA256 (disk.qcow2) = {HEX}\n",
        f"{OTHER}  disk.qcow2.gz\n{HEX}  disk.qcow2\n{OTHER}  other/disk.qcow2\n{OTHER}  /disk.qcow2\n",
        f"{OTHER}  ../disk.qcow2\n{HEX}  disk.qcow2\n",
    ],
)
def test_the_digest_of_the_file_is_found(content: str) -> None:
    assert listed_digest(content.encode(), "disk.qcow2") == WANTED


@pytest.mark.parametrize(("algorithm", "size"), [("sha256", 64), ("sha384", 96), ("sha512", 128)])
def test_the_length_tells_the_algorithm(algorithm: str, size: int) -> None:
    assert listed_digest(f"{'a' * size}  disk\n".encode(), "disk") == Digest(algorithm, "a" * size)
    tagged = f"{algorithm.upper()} (disk) = {'a' * size}\n"
    assert listed_digest(tagged.encode(), "disk") == Digest(algorithm, "a" * size)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"{HEX}  two words.img", "two words.img"),
        (f"{HEX}   begins with a blank", " begins with a blank"),
        (rf"\{HEX}  back\\slash", "back\\slash"),
        (rf"\{HEX}  line\nend", "line\nend"),
        (rf"\{HEX}  a\\nb", "a\\nb"),
        (rf"\SHA256 (line\rend) = {HEX}", "line\rend"),
        (f"{HEX}  ba\\ck", "ba\\ck"),  # without the mark in front nothing is escaped
        (f"SHA256 (a) = b) = {HEX}", "a) = b"),
        (f"{HEX}  größe.img", "größe.img"),
    ],
)
def test_names_are_read_as_sha256sum_writes_them(line: str, name: str) -> None:
    assert listed_digest(f"{line}\n".encode(), name) == WANTED


@pytest.mark.parametrize(
    "content",
    [
        b"disk\n",
        b"<html>not found</html>",
        f"{HEX} disk\n".encode(),
        f"{HEX}\n".encode(),
        f"{HEX}  \n".encode(),
        f"{'a' * 32}  disk\n".encode(),  # MD5
        f"{'a' * 40}  disk\n".encode(),  # SHA-1
        f"{'a' * 56}  disk\n".encode(),  # SHA-224
        f"{'a' * 65}  disk\n".encode(),
        f"MD5 (disk) = {'a' * 32}\n".encode(),
        f"SHA1 (disk) = {'a' * 40}\n".encode(),
        f"SHA512 (disk) = {HEX}\n".encode(),  # a digest of another length than its name
        f"BLAKE2b (disk) = {'a' * 128}\n".encode(),
        f"SHA3-256 (disk) = {HEX}\n".encode(),
        rf"\{HEX}  wrongly\escaped".encode(),
        f"{HEX}  disk\n{'a' * 40}  other\n".encode(),  # one broken line refuses the list
        f"{HEX}  disk\n\0".encode(),
        f"{HEX}  disk\n".encode("utf-16"),
        b"\xff" * 100,
        f"{HEX}  disk\n".encode() + b"#" * MAX_LIST_BYTES,
    ],
)
def test_a_list_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(ChecksumsMalformedError):
        listed_digest(content, "disk")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# nothing\n",
        f"{HEX}  Disk\n",
        f"{HEX}  disk \n",
        f"{HEX}  sub/disk\n",
        f"{HEX}  ././disk\n",
        f"{HEX}  disk\n{OTHER}  disk\n",
        f"{HEX}  disk\n{HEX}  disk\n",
        f"{HEX}  disk\n{OTHER} *./disk\n",
        f"{HEX}  disk\nSHA512 (disk) = {'a' * 128}\n",
    ],
)
def test_a_list_names_the_file_exactly_once(content: str) -> None:
    with pytest.raises(ChecksumsIncompleteError):
        listed_digest(content.encode(), "disk")


@given(
    content=st.one_of(st.binary(max_size=400), st.text(max_size=400).map(lambda text: text.encode("utf-8", "replace")))
)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ChecksumsMalformedError, ChecksumsIncompleteError):
        listed_digest(content, "disk")


NAMES = st.text(min_size=1, max_size=40).filter(lambda name: "\0" not in name and not name.startswith("./"))


@given(name=NAMES, others=st.lists(NAMES, max_size=5), is_tagged=st.booleans())
def test_what_sha256sum_writes_of_any_name_is_found_again(name: str, others: list[str], is_tagged: bool) -> None:
    def line(listed: str, value: str) -> str:
        escaped = listed.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        mark = "\\" if escaped != listed else ""
        return f"{mark}SHA256 ({escaped}) = {value}\n" if is_tagged else f"{mark}{value}  {escaped}\n"

    listing = "".join(line(each, OTHER) for each in set(others) - {name}) + line(name, HEX)
    try:
        content = listing.encode()
    except UnicodeEncodeError:  # half of a surrogate pair is no name
        return
    assert listed_digest(content, name) == WANTED


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://example.org/images/disk.qcow2", "disk.qcow2"),
        ("https://example.org/disk.qcow2?mirror=1#top", "disk.qcow2"),
        ("https://example.org/two%20words.img", "two words.img"),
        ("https://example.org/a/..%2e", "..."),
    ],
)
def test_a_files_name_is_the_last_segment(uri: str, name: str) -> None:
    assert file_name_of(uri) == name


@pytest.mark.parametrize(
    "path", ["", "/", "/images/", "/a%2Fb", "/..", "/%2e%2e", "/.", "/%ff", "/a%00b", "/a%0Ab", "/?name=disk"]
)
def test_a_url_without_a_files_name_goes_with_no_list(path: str) -> None:
    with pytest.raises(InvalidUriError):
        file_name_of(f"https://example.org{path}")
