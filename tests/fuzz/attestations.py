"""Bundles, envelopes and statements about the road of an image."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping

from tests.fuzz.target import Target
from tests.unit.trust.roads import NOW, RoadCase, trusting
from tintype.domain.errors import RefusedContentError
from tintype.trust.bundle import read_bundle, write_bundle
from tintype.trust.custody import CustodyRules, verify_custody
from tintype.trust.dsse import envelope_of
from tintype.trust.statement import read_statement

CASES = (RoadCase(), RoadCase(is_converted=False), RoadCase(is_signed=False), RoadCase(is_compressed=True))
RULES = CustodyRules(allow_unsigned=True)


def targets() -> Mapping[str, Target]:
    """Each part by itself: a fuzzer does not guess what a signature covers."""
    return {
        "provenance-bundle": Target(_verify_bundle, lambda: (write_bundle(case.provenance()) for case in CASES)),
        "attestation-envelope": Target(_read_envelope, lambda: (case.envelope() for case in CASES)),
        "attestation-statement": Target(_read_statement, _statements),
    }


def _verify_bundle(content: bytes) -> None:
    try:
        verify_custody(read_bundle(content), trusting(), NOW, RULES)
    except RefusedContentError:
        return


def _read_envelope(content: bytes) -> None:
    try:
        envelope_of(content)
    except RefusedContentError:
        return


def _read_statement(content: bytes) -> None:
    try:
        read_statement(content)
    except RefusedContentError:
        return


def _statements() -> Iterator[bytes]:
    for case in CASES:
        yield base64.b64decode(json.loads(case.envelope())["payload"])
