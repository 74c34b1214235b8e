"""What operators type about stored bytes and checkpoints; importer and signer say what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.unit.cli.conftest import Tintype
from tintype.api.importer.v1 import importer_pb2, importer_pb2_grpc
from tintype.api.signer.v1 import signer_pb2, signer_pb2_grpc
from tintype.api.types.v1 import types_pb2
from tintype.cli.exit_codes import ExitCode
from tintype.domain.values import Digest
from tintype.testing.events import an_image_id
from tintype.trust.checkpoints import CHECKPOINT, Checkpoint
from tintype.trust.dsse import sealed
from tintype.trust.heads import LogState

IMAGE = an_image_id()
GOOD, BAD = f"sha256:{'ab' * 32}", f"sha256:{'cd' * 32}"

CHECKPOINTED = Checkpoint(LogState(17, 12, 3, "ab" * 32), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


async def sign(key_id: str, digest: Digest) -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    return key.sign(bytes.fromhex(digest.hex), ec.ECDSA(Prehashed(hashes.SHA384())))


class Services(importer_pb2_grpc.ImporterAdminServiceServicer, signer_pb2_grpc.SignerServiceServicer):
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.scrubbed: Sequence[importer_pb2.ScrubResponse] = ()
        self.envelope = asyncio.run(sealed(CHECKPOINTED.encoded(), CHECKPOINT, "key-1", sign))
        self.complaint: types_pb2.Failure | None = None
        self.asked: Any = None
        self.is_admin = False

    def Scrub(self, request: Any, context: Any) -> Any:
        self.asked = request
        self.is_admin = ("tintype-admin", "true") in [tuple(pair) for pair in context.invocation_metadata()]
        return iter(self.scrubbed)

    def GetCheckpoint(self, request: Any, context: Any) -> Any:
        self.asked = request
        return signer_pb2.Checkpoint(envelope=self.envelope, position=17, number=4, complaint=self.complaint)


@pytest.fixture
def operators(config: Path) -> Iterator[Services]:
    services = Services()  # type: ignore[abstract]  # two calls will do
    server: Any = grpc.server(ThreadPoolExecutor(2))
    importer_pb2_grpc.add_ImporterAdminServiceServicer_to_server(services, server)
    signer_pb2_grpc.add_SignerServiceServicer_to_server(services, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    config.write_text(f'[client]\ncatalog = "{address}"\nimporter = "{address}"\nsigner = "{address}"\nretry_s = 0.2\n')
    yield services
    server.stop(None).wait()


def state(finding: importer_pb2.ScrubFinding | None = None) -> importer_pb2.ScrubResponse:
    return importer_pb2.ScrubResponse(done=4096, total=8192, copies=2, finding=finding)


HEALED = importer_pb2.ScrubFinding(image_id=IMAGE, store="second", expected=GOOD, found=BAD, healed=True)
DAMAGED = importer_pb2.ScrubFinding(
    image_id=IMAGE,
    store="main",
    expected=GOOD,
    found=BAD,
    failure=types_pb2.Failure(reason="BLOB_DAMAGED", message="no sound copy", hint="Look at the store."),
)
AWAY = importer_pb2.ScrubFinding(
    image_id=IMAGE,
    store="main",
    expected=GOOD,
    failure=types_pb2.Failure(reason="STORE_UNAVAILABLE", message="no answer", retryable=True),
)


def test_a_scrub_without_findings_is_done(tintype: Tintype, operators: Services) -> None:
    operators.scrubbed = [state(), state()]

    outcome = tintype("admin", "scrub", "-o", "json")

    assert outcome.code == ExitCode.OK
    assert outcome.answer == {"done": 4096, "copies": 2, "findings": []}
    assert operators.is_admin


def test_a_healed_copy_is_told_and_is_no_failure(tintype: Tintype, operators: Services) -> None:
    operators.scrubbed = [state(HEALED), state()]

    outcome = tintype("admin", "scrub")

    assert outcome.code == ExitCode.OK
    assert "healed" in outcome.out and GOOD in outcome.out


@pytest.mark.parametrize(
    ("findings", "code", "reason"),
    [
        ([DAMAGED], ExitCode.CONTENT, "BLOB_DAMAGED"),
        ([AWAY, HEALED, DAMAGED], ExitCode.CONTENT, "BLOB_DAMAGED"),
        ([AWAY, HEALED], ExitCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    ],
)
def test_what_is_not_sound_after_a_scrub_fails_it_with_its_reason(
    tintype: Tintype,
    operators: Services,
    findings: list[importer_pb2.ScrubFinding],
    code: ExitCode,
    reason: str,
) -> None:
    operators.scrubbed = [state(finding) for finding in findings]

    outcome = tintype("admin", "scrub", "-o", "json")

    assert (outcome.code, outcome.error["reason"]) == (code, reason)
    told = outcome.answer["findings"]
    assert isinstance(told, list) and len(told) == len(findings)


def test_a_scrub_asks_for_what_was_typed(tintype: Tintype, operators: Services) -> None:
    tintype("admin", "scrub", "--store", "main", "--rate", "2.5", "--image", IMAGE)

    assert operators.asked == importer_pb2.ScrubRequest(store="main", rate_bytes_s=2_500_000, image_id=IMAGE)


def test_a_tiny_rate_is_not_taken_for_none(tintype: Tintype, operators: Services) -> None:
    tintype("admin", "scrub", "--rate", "0.0000001")

    assert operators.asked.rate_bytes_s == 1


def test_a_checkpoint_is_shown_and_saved_as_it_came(tintype: Tintype, operators: Services, tmp_path: Path) -> None:
    outcome = tintype("admin", "checkpoint", "--save", "saved.json", "--max-position", "20", "-o", "json")

    assert outcome.code == ExitCode.OK
    assert operators.asked.max_position == 20
    assert (tmp_path / "saved.json").read_bytes() == operators.envelope
    shown = outcome.answer
    assert (shown["number"], shown["position"], shown["events"], shown["images"]) == (4, 17, 12, 3)
    assert (shown["root"], shown["key_id"]) == (f"sha256:{'ab' * 32}", "key-1")
    assert shown["envelope"] == operators.envelope.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["client.toml", "saved.json"]


def test_a_person_is_shown_the_checkpoint_and_the_complaint(tintype: Tintype, operators: Services) -> None:
    operators.complaint = types_pb2.Failure(reason="CHECKPOINT_MISMATCH", message="the log is not what it was")

    shown = tintype("admin", "checkpoint").out

    assert "the log is not what it was [CHECKPOINT_MISMATCH]" in shown
    assert "payloadType" not in shown


def test_what_is_no_checkpoint_is_not_saved(tintype: Tintype, operators: Services, tmp_path: Path) -> None:
    operators.envelope = json.dumps({"payloadType": "text/plain"}).encode()
    (tmp_path / "saved.json").write_text("the one before")

    outcome = tintype("admin", "checkpoint", "--save", "saved.json", "-o", "json")

    assert (outcome.code, outcome.error["reason"]) == (ExitCode.CONTENT, "CHECKPOINT_INVALID")
    assert (tmp_path / "saved.json").read_text() == "the one before"


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tintype: Tintype, operators: Services) -> None:
    outcome = tintype("admin", "checkpoint", "--save", "absent/saved.json")

    assert outcome.code == ExitCode.REFUSED
    assert "absent" in outcome.err


def test_a_saved_checkpoint_that_is_not_there_is_a_local_failure(tintype: Tintype, operators: Services) -> None:
    assert tintype("admin", "check-log", "--since", "absent.json").code == ExitCode.REFUSED
