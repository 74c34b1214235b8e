"""``tintype policy``: what it prints, and how it ends."""

from __future__ import annotations

import json
import uuid

from tests.unit.cli.conftest import Tintype
from tests.unit.client.fake_services import FakeServices, verdict
from tintype.cli.exit_codes import ExitCode

ONE, TWO = (str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in ("one", "two"))


def test_an_image_that_would_be_let_in_is_said_to_be(services: FakeServices, tintype: Tintype) -> None:
    services.verdicts = [verdict(ONE)]
    outcome = tintype("policy", "test", ONE, "--output", "json")
    assert outcome.code == ExitCode.OK
    assert (outcome.answer["allowed"], outcome.answer["policy"]) == (True, "ab" * 32)
    assert "signed (CN=Publisher)" in tintype("policy", "test", ONE).out


def test_an_image_that_would_be_refused_is_an_error_with_its_reason(services: FakeServices, tintype: Tintype) -> None:
    services.verdicts = [verdict(ONE, reason="CERTIFICATE_EXPIRED")]
    outcome = tintype("policy", "test", ONE, "--output", "json")
    assert outcome.code == ExitCode.CONTENT
    assert outcome.answer["allowed"] is False
    assert outcome.error == {
        "reason": "CERTIFICATE_EXPIRED",
        "message": "no",
        "hint": "do it",
        "retryable": False,
        "evidence": {"certificate_subject": "CN=X"},
    }
    told = tintype("policy", "test", ONE)
    assert "evidence: certificate_subject: CN=X" in told.err
    assert "error: no [CERTIFICATE_EXPIRED]" in told.err


def test_the_image_may_be_named(services: FakeServices, tintype: Tintype) -> None:
    image = services.add_image("debian")
    services.verdicts = [verdict(image.id)]
    assert tintype("policy", "test", "debian").code == ExitCode.OK


def test_a_replay_prints_a_line_for_each_image_and_ends_with_an_error_if_one_is_refused(
    services: FakeServices, tintype: Tintype
) -> None:
    services.verdicts = [verdict(ONE), verdict(TWO, "p2", reason="SIGNATURE_MISSING")]
    outcome = tintype("policy", "replay")
    assert outcome.code == ExitCode.CONTENT
    assert outcome.out.splitlines() == [
        f"allowed  {ONE}  p1  CN=Publisher",
        f"refused  {TWO}  p2  no [SIGNATURE_MISSING]",
    ]
    assert "today's policies refuse 1 of 2 images [POLICY_REFUSES]" in outcome.err
    assert "tintype --admin policy test" in outcome.err  # the image may be of any project
    as_json = tintype("policy", "replay", "--output", "json")
    assert [json.loads(line)["image_id"] for line in as_json.out.splitlines()] == [ONE, TWO]


def test_a_replay_of_one_project_asks_for_that_alone(services: FakeServices, tintype: Tintype) -> None:
    services.verdicts = [verdict(ONE), verdict(TWO, "p2", reason="SIGNATURE_MISSING")]
    outcome = tintype("policy", "replay", "--project", "p1")
    assert outcome.code == ExitCode.OK
    assert outcome.out.splitlines() == [f"allowed  {ONE}  p1  CN=Publisher"]
