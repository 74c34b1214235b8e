"""Lists of checksums as ``sha256sum`` and its like write them: the digest of one file in them. Pure.

The list is believed only where its signature was verified; even then it is read strictly. A line that is no entry, or
of a broken hash, refuses the whole list, and so do two entries for the file: nothing is guessed.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from tintype.domain.errors import ChecksumsIncompleteError, ChecksumsMalformedError, InvalidUriError
from tintype.domain.values import Digest

MAX_LIST_BYTES = 1024 * 1024

_ALGORITHMS = {64: "sha256", 96: "sha384", 128: "sha512"}
_BROKEN = {32: "MD5", 40: "SHA-1", 56: "SHA-224"}

# `HEX  name` and `HEX *name`; a backslash in front says that the name is escaped.
_GNU = re.compile(r"(?P<escaped>\\)?(?P<hex>[0-9A-Fa-f]{32,128}) [ *](?P<name>.+)", re.DOTALL)
# `SHA256 (name) = HEX`, as BSD's tools and `sha256sum --tag` write it.
_BSD = re.compile(
    r"(?P<escaped>\\)?(?P<algorithm>[A-Z0-9-]{3,10}) \((?P<name>.+)\) = (?P<hex>[0-9A-Fa-f]{32,128})", re.DOTALL
)
_BSD_ALGORITHMS = {"SHA256": 64, "SHA384": 96, "SHA512": 128, "MD5": 32, "SHA1": 40, "SHA224": 56}
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


def file_name_of(uri: str) -> str:
    """The name under which a publisher's list has the file at ``uri``: its last segment, percent-decoded.

    Raises:
        InvalidUriError: the URI ends in no file's name.
    """
    try:
        name = unquote(urlsplit(uri).path.rpartition("/")[2], errors="strict")
    except ValueError:
        raise InvalidUriError("the uri's last segment is no name in UTF-8") from None
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise InvalidUriError("the uri does not end in a file's name, which a list of checksums could have")
    return name


def listed_digest(content: bytes, name: str) -> Digest:
    """The digest that a list has for the file ``name``; a ``./`` in front of a listed name means nothing.

    Raises:
        ChecksumsMalformedError: it is too large, a line is no entry, or of MD5, SHA-1 or another weak hash.
        ChecksumsIncompleteError: it does not name the file, or names it twice.
    """
    if len(content) > MAX_LIST_BYTES:
        raise ChecksumsMalformedError(f"the list of checksums has more than {MAX_LIST_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ChecksumsMalformedError("the list of checksums is not text in UTF-8") from None
    if "\0" in text:
        raise ChecksumsMalformedError("the list of checksums is not text")
    found: list[Digest] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        listed, digest = _entry(line, number)
        if listed.removeprefix("./") == name:
            found.append(digest)
    if not found:
        raise ChecksumsIncompleteError(f"the list of checksums does not name {name[:80]!r}")
    if len(found) > 1:
        raise ChecksumsIncompleteError(f"the list of checksums names {name[:80]!r} {len(found)} times")
    return found[0]


def _entry(line: str, number: int) -> tuple[str, Digest]:
    entry = _BSD.fullmatch(line) or _GNU.fullmatch(line)
    if entry is None:
        raise ChecksumsMalformedError(f"line {number} of the list of checksums is no entry of it")
    size = len(entry["hex"])
    if size in _BROKEN:
        raise ChecksumsMalformedError(
            f"line {number} of the list of checksums is {_BROKEN[size]}: only SHA-256, SHA-384 and SHA-512 count"
        )
    said = entry.groupdict().get("algorithm")
    if size not in _ALGORITHMS or (said is not None and _BSD_ALGORITHMS.get(said) != size):
        raise ChecksumsMalformedError(f"line {number} of the list of checksums has no digest of SHA-256, -384 or -512")
    name = _unescaped(entry["name"], number) if entry["escaped"] else entry["name"]
    return name, Digest(_ALGORITHMS[size], entry["hex"].lower())


def _unescaped(name: str, number: int) -> str:
    if re.search(r"\\(?![\\nr])", re.sub(r"\\\\", "", name)):
        raise ChecksumsMalformedError(f"line {number} of the list of checksums has a name that is wrongly escaped")
    return re.sub(r"\\[\\nr]", lambda found: _ESCAPES[found[0]], name)
