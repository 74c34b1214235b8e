"""What the service signs is verified by programs that are not ours: securesystemslib, in-toto's library, openssl."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.json_format import Parse
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance as SlsaProvenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer._key import SSlibKey

from tests.unit.trust.roads import CONVERTED, KEY_ID, SENT, RoadCase, digests, service
from tests.unit.trust.test_custody import ORIGIN
from tintype.domain.errors import EventTooLargeError
from tintype.domain.events import ImageConverted
from tintype.domain.provenance import road_of
from tintype.testing.events import GUEST_DIGEST, OPERATION, an_image_id
from tintype.trust.statement import statement_of


def sslib_key(certificate: x509.Certificate) -> SSlibKey:
    return SSlibKey.from_crypto(certificate.public_key(), keyid=KEY_ID)


def payload_of(envelope: bytes) -> bytes:
    return base64.b64decode(json.loads(envelope)["payload"])


def test_securesystemslib_verifies_an_attestation() -> None:
    envelope = Envelope.from_dict(json.loads(RoadCase().envelope()))
    assert envelope.payload_type == "application/vnd.in-toto+json"
    assert set(envelope.verify([sslib_key(service())], threshold=1)) == {KEY_ID}


def test_securesystemslib_refuses_an_attestation_that_was_changed() -> None:
    envelope = Envelope.from_dict(json.loads(RoadCase().envelope()))
    envelope.payload = envelope.payload.replace(b"qemu-img", b"qemu-imh")
    with pytest.raises(VerificationError):
        envelope.verify([sslib_key(service())], threshold=1)


def openssl_verifies(envelope: dict[str, str], certificate: x509.Certificate, directory: Path) -> bool:
    """As docs/provenance.md says: DSSE's encoding by hand, and the openssl program."""
    public = certificate.public_key().public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    (directory / "key.pem").write_bytes(public)
    (directory / "encoded").write_bytes(encoded)
    (directory / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))  # type: ignore[index]
    command = ["openssl", "dgst", "-sha384", "-verify", "key.pem", "-signature", "signature", "encoded"]
    return subprocess.run(command, cwd=directory, capture_output=True, timeout=30, check=False).returncode == 0


def test_openssl_verifies_an_attestation(tmp_path: Path) -> None:
    envelope = json.loads(RoadCase().envelope())
    assert openssl_verifies(envelope, service(), tmp_path)
    envelope["payload"] = base64.b64encode(b"{}").decode()
    assert not openssl_verifies(envelope, service(), tmp_path)


@pytest.mark.parametrize("case", [RoadCase(), RoadCase(is_converted=False), RoadCase(is_signed=False, origin=ORIGIN)])
def test_in_totos_library_takes_the_statement(case: RoadCase) -> None:
    message = Parse(payload_of(case.envelope()), StatementMessage())
    Statement.copy_from_pb(message).validate()


@pytest.mark.parametrize("case", [RoadCase(), RoadCase(is_converted=False), RoadCase(is_signed=False, origin=ORIGIN)])
def test_the_predicate_is_slsa_provenance_and_nothing_else(case: RoadCase) -> None:
    predicate = json.loads(payload_of(case.envelope()))["predicate"]
    read = Parse(json.dumps(predicate), SlsaProvenance())  # refuses fields that SLSA does not know
    assert read.build_definition.build_type and read.run_details.builder.id
    assert read.run_details.metadata.HasField("finished_on")


def test_a_statement_says_what_is_documented() -> None:
    statement = json.loads(payload_of(RoadCase(origin=ORIGIN).envelope()))
    (subject,) = statement["subject"]
    assert subject == {
        "name": an_image_id(),
        "digest": {"sha512": digests(CONVERTED)["sha512"]},
        "annotations": {"size": len(CONVERTED), "disk_format": "raw", "guest_digest": GUEST_DIGEST},
    }
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "image_id": an_image_id(),
        "project": "demo",
        "operation_id": OPERATION,
        "method": "web-download",
    }
    assert definition["resolvedDependencies"] == [
        {
            "name": "sent",
            "uri": ORIGIN.uri,
            "digest": digests(SENT),
            "annotations": {
                "size": len(SENT),
                "disk_format": "qcow2",
                "guest_digest": GUEST_DIGEST,
                "origin": {
                    "digest": str(ORIGIN.digest),
                    "checksums_uri": ORIGIN.checksums_uri,
                    "publisher_fingerprint": ORIGIN.publisher_fingerprint,
                },
            },
        }
    ]
    internal = definition["internalParameters"]
    assert internal["conversion"] == {
        "tool": "qemu-img",
        "version": "7.2.0",
        "arguments": ["convert", "-p"],
        "sandbox": {"kind": "bubblewrap", "limits": {"cpu_s": 7200}, "seccomp": True},
    }
    conversion = RoadCase(origin=ORIGIN).history()[-1]
    assert internal["log"] == {
        "position": conversion.position,
        "version": conversion.version,
        "hash": conversion.hash,
    }
    assert internal["verification"]["verdict"] == "signed" and internal["verification"]["policy"] == "78" * 32


def test_a_statement_keeps_what_a_url_may_hide_to_itself() -> None:
    assert b"secret" not in payload_of(RoadCase().envelope())


def test_the_same_road_makes_the_same_statement() -> None:
    case = RoadCase(signer=None, is_signed=False)
    assert payload_of(case.envelope()) == payload_of(case.envelope())


def test_a_statement_that_fits_into_no_event_is_not_signed() -> None:
    history = RoadCase().history()
    made = history[-1].event.payload
    assert isinstance(made, ImageConverted)
    road = road_of(history)
    event = replace(road.conversion.event, payload=replace(made, arguments=("x" * 1000,) * 600))
    with pytest.raises(EventTooLargeError):
        statement_of(replace(road, conversion=replace(road.conversion, event=event)), "1.2.3")
