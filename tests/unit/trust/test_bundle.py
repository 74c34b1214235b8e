"""Provenance bundles: one file that holds all, and what is refused in one that strangers wrote."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.trust.roads import NOW, RoadCase, trusting
from tests.unit.trust.test_custody import ORIGIN
from tintype.domain.errors import AttestationInvalidError, BundleInvalidError
from tintype.domain.provenance import MAX_BUNDLE_BYTES
from tintype.trust.bundle import MEDIA_TYPE, read_bundle, write_bundle
from tintype.trust.custody import verify_custody


def bundle(**changes: Any) -> bytes:
    written = json.loads(write_bundle(RoadCase(origin=ORIGIN).provenance()))
    written.update(changes)
    return json.dumps({name: value for name, value in written.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "case",
    [
        RoadCase(),
        RoadCase(origin=ORIGIN),
        RoadCase(is_converted=False),
        RoadCase(is_signed=False, has_guest_digest=False),
        RoadCase(is_compressed=True),
    ],
    ids=["converted", "origin", "as sent", "unsigned", "compressed"],
)
def test_a_bundle_proves_what_its_provenance_proves(case: RoadCase) -> None:
    provenance = case.provenance()
    read = read_bundle(write_bundle(provenance))
    assert json.loads(read.attestation) == json.loads(provenance.attestation)
    assert replace(read, attestation=b"") == replace(provenance, attestation=b"")
    if case.is_signed:
        assert verify_custody(read, trusting(), NOW) == verify_custody(provenance, trusting(), NOW)


def test_the_same_provenance_makes_the_same_file() -> None:
    provenance = RoadCase().provenance()
    assert write_bundle(provenance) == write_bundle(provenance) == write_bundle(read_bundle(write_bundle(provenance)))


def test_the_attestation_stands_in_a_bundle_as_the_envelope_that_it_is() -> None:
    envelope = json.loads(bundle())["attestation"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert (envelope["payloadType"], statement["_type"]) == (
        "application/vnd.in-toto+json",
        "https://in-toto.io/Statement/v1",
    )


def test_an_image_without_attestation_has_a_bundle() -> None:
    bare = replace(RoadCase().provenance(), attestation=b"", attestation_key_id="")
    assert read_bundle(write_bundle(bare)) == bare


def test_an_attestation_that_is_no_json_has_no_place_in_a_bundle() -> None:
    with pytest.raises(AttestationInvalidError):
        write_bundle(replace(RoadCase().provenance(), attestation=b"\x00"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"{" + b'"a":{' * 100_000,
        b"[" * 100_000,
        b" " * (MAX_BUNDLE_BYTES + 1),
        bundle(mediaType="application/json"),
        bundle(mediaType=MEDIA_TYPE.replace("v1", "v2")),
        bundle(surprise=1),
        bundle(image_id="../../etc/passwd"),
        bundle(image_id=7),
        bundle(project="a b"),
        bundle(sent=...),
        bundle(published=[]),
        bundle(sent={"size": -1, "digests": {}}),
        bundle(sent={"size": 1.5, "digests": {}}),
        bundle(sent={"size": True, "digests": {}}),
        bundle(sent={"size": 1, "digests": {"sha256": "zz"}}),
        bundle(sent={"size": 1, "digests": {"crc32": "00000000"}}),
        bundle(sent={"size": 1, "digests": {}, "disk_format": "floppy"}),
        bundle(sent={"size": 1, "digests": {}, "guest_digest": "guest-disk-v9:00"}),
        bundle(sent={"size": 1, "digests": {}, "path": "/etc"}),
        bundle(verification={"verdict": "splendid"}),
        bundle(verification={"verdict": "signed", "digest": "sha256"}),
        bundle(signature_properties={"img_signature": 1}),
        bundle(signature_properties={"os_distro": "debian"}),
        bundle(certificates=["*"]),
        bundle(certificates=["AAAA"] * 17),
        bundle(certificates="AAAA"),
        bundle(origin={"uri": "https://example.org"}),
        bundle(attestation="e30="),
        bundle(attestation_key_id=["a"]),
        bundle().replace(b'"project"', b'"image_id"', 1),
        bundle().replace(b'{"attestation"', b'{"origin":null,"origin":null,"attestation"', 1),
        b'{"mediaType":NaN}',
        b'{"mediaType":' + b"9" * 5000 + b"}",
    ],
)
def test_a_file_that_is_no_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(BundleInvalidError):
        read_bundle(content)
