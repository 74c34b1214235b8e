"""The manifest of an OVA (DSP0243, "Manifest"): which digest each of its files has."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tintype.domain.errors import MalformedImageError, ManifestMismatchError, UnsupportedImageError
from tintype.domain.values import Digest

_LINE = re.compile(r"([A-Za-z0-9-]{1,16}) ?\((.{1,1024})\) ?= ?([0-9a-fA-F]{1,256})")
_ALGORITHMS = {"SHA1": "sha1", "SHA-1": "sha1", "SHA256": "sha256", "SHA-256": "sha256", "SHA512": "sha512",
               "SHA-512": "sha512"}  # fmt: skip
_SIZES = {"sha1": 40, "sha256": 64, "sha512": 128}


def parse_manifest(data: bytes) -> dict[str, Digest]:
    """The digests by the files' names.

    Raises:
        UnsupportedImageError: a digest is of an algorithm that is not known.
        MalformedImageError: a line cannot be read, or a file is listed twice.
    """
    found: dict[str, Digest] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise MalformedImageError(f"the OVA's manifest has a line that cannot be read: {line!a:.60}")
        algorithm = _ALGORITHMS.get(match[1].upper())
        if algorithm is None:
            raise UnsupportedImageError(f"the OVA's manifest has digests by {match[1]!a:.20}")
        if match[2] in found or len(match[3]) != _SIZES[algorithm]:
            raise MalformedImageError(f"the OVA's manifest lists {match[2]!a:.60} twice, or with half a digest")
        found[match[2]] = Digest(algorithm, match[3].lower())
    if not found:
        raise MalformedImageError("the OVA's manifest is empty")
    return found


def check_manifest(listed: Mapping[str, Digest], taken: Mapping[str, Mapping[str, str]], required: set[str]) -> None:
    """Compare what a manifest lists with the digests that were taken: hexadecimal by algorithm, by the files' names.

    Raises:
        ManifestMismatchError: a file is another one, is missing, or is ``required`` and not listed.
        UnsupportedImageError: a digest is by an algorithm that was not taken.
    """
    for name, digest in listed.items():
        digests = taken.get(name)
        if digests is None:
            raise ManifestMismatchError(f"the OVA's manifest lists {name!a:.80}, which the archive does not hold")
        if digest.algorithm not in digests:
            raise UnsupportedImageError(
                f"the OVA's manifest comes behind {name!a:.80} and has its digest by {digest.algorithm}: put it first"
            )
        if digests[digest.algorithm] != digest.hex:
            raise ManifestMismatchError(f"{name!a:.80} in the OVA is not the file that the manifest lists")
    if missing := sorted(required - listed.keys()):
        raise ManifestMismatchError(f"the OVA's manifest does not list {missing[0]!a:.80}")
