"""What today's policy says about images of the past: by their own history, of one or of all."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from services.signer import policy_tests
from services.signer.policy_tests import PolicyVerdict, ReplayStep
from tests.unit.signer.policy_bench import (
    ACME,
    DEMO,
    OTHER_DIGEST,
    ROOT,
    SIGNED,
    PolicyBench,
    context,
    roots_of,
)
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.domain.access import Caller
from tintype.domain.commands import CreateImage, RecordStepFailed, UpdateImage
from tintype.domain.errors import (
    ImageHasNoDataError,
    ImageNotFoundError,
    InvalidIdentifierError,
    KeyManagerUnavailableError,
    LogCorruptError,
    NotPermittedError,
    SignaturePropertiesFixedError,
)
from tintype.domain.events import Failure, Step, Verdict
from tintype.domain.values import Digest, ImageId, ProjectId
from tintype.testing.certificates import root_authority
from tintype.testing.events import ATTRIBUTES, an_image_id

DEMO_CALLER = Caller(DEMO, "ann")


async def replayed(bench: PolicyBench, project: ProjectId | None = None) -> list[ReplayStep]:
    """All steps of a replay."""
    async with aclosing(bench.tests.replay(project)) as steps:
        return [step async for step in steps]


async def verdicts(bench: PolicyBench, project: ProjectId | None = None) -> dict[str, PolicyVerdict]:
    """What a replay finds, by image."""
    return {step.verdict.image_id: step.verdict for step in await replayed(bench, project) if step.verdict}


# --- one image --------------------------------------------------------------------------------------------------------


async def test_an_image_is_judged_by_todays_rules_and_the_digests_of_its_history(tmp_path: Path) -> None:
    bench = PolicyBench(trusted_roots_dir=roots_of(tmp_path / "roots", ROOT.certificate))
    good = await bench.published("good", SIGNED)
    bad = await bench.published("bad", SIGNED, digest=OTHER_DIGEST)
    verdict = await bench.tests.test(DEMO_CALLER, good.id)
    assert verdict.verification is not None
    assert verdict.verification.verdict is Verdict.SIGNED
    assert verdict.failure is None
    refused = await bench.tests.test(DEMO_CALLER, bad.id)
    assert refused.failure is not None
    assert refused.failure.reason == "SIGNATURE_INVALID"
    assert refused.failure.evidence["policy"] == refused.policy == verdict.policy


async def test_a_policy_that_became_stricter_refuses_what_was_let_in(tmp_path: Path) -> None:
    bench = PolicyBench(trusted_roots_dir=roots_of(tmp_path / "roots", root_authority("New").certificate))
    image = await bench.published("old", SIGNED)
    refused = await bench.tests.test(DEMO_CALLER, image.id)
    assert refused.failure is not None
    assert refused.failure.reason == "CERTIFICATE_UNTRUSTED"
    assert refused.failure.hint


async def test_asking_changes_nothing() -> None:
    bench = PolicyBench(require_signature=True)
    image = await bench.published("plain", {})
    head = await bench.log.head()
    assert (await bench.tests.test(DEMO_CALLER, image.id)).failure is not None
    assert await bench.log.head() == head


async def test_an_image_that_was_refused_before_can_be_asked_about() -> None:
    bench = PolicyBench()
    image = await bench.staged("refused", SIGNED)
    assert image.operation is not None
    failure = Failure("SIGNER_NOT_ALLOWED", "no")
    await bench.do(image.id, DEMO, RecordStepFailed(image.operation.id, Step.VERIFY, failure))
    assert (await bench.tests.test(DEMO_CALLER, image.id)).failure is None


async def test_an_image_that_others_may_not_see_is_not_there_for_them() -> None:
    bench = PolicyBench()
    image = await bench.published("secret", SIGNED, project=ACME)
    with pytest.raises(ImageNotFoundError):
        await bench.tests.test(DEMO_CALLER, image.id)
    with pytest.raises(ImageNotFoundError):
        await bench.tests.test(DEMO_CALLER, an_image_id("nowhere"))
    await bench.tests.test(Caller(DEMO, "root", is_admin=True), image.id)


async def test_a_deleted_image_is_not_there_for_anybody() -> None:
    bench = PolicyBench()
    image = await bench.published("gone", SIGNED)
    await bench.deleted(image)
    with pytest.raises(ImageNotFoundError):
        await bench.tests.test(DEMO_CALLER, image.id)


async def test_an_image_without_bytes_has_nothing_to_judge() -> None:
    bench = PolicyBench()
    await bench.do(an_image_id("empty"), DEMO, CreateImage(replace(ATTRIBUTES, properties=SIGNED)))
    with pytest.raises(ImageHasNoDataError):
        await bench.tests.test(DEMO_CALLER, an_image_id("empty"))


async def test_the_policy_is_that_of_the_images_project_and_not_of_the_caller() -> None:
    bench = PolicyBench(projects={"acme": {"allowed_signers": ["ab" * 32]}})
    image = await bench.published("acme's", SIGNED, project=ACME)
    verdict = await bench.tests.test(Caller(DEMO, "root", is_admin=True), image.id)
    assert verdict.failure is not None
    assert verdict.failure.reason == "SIGNER_NOT_ALLOWED"


async def test_a_digest_that_was_not_taken_then_cannot_be_judged_now() -> None:
    bench = PolicyBench()
    image = await bench.published("odd", SIGNED, digest=Digest("sha512", "ab" * 64))
    refused = (await bench.tests.test(DEMO_CALLER, image.id)).failure
    assert refused is not None
    assert refused.reason == "SIGNATURE_CHANGED"


@pytest.mark.parametrize("name", list(SIGNED))
async def test_a_signature_property_cannot_be_edited_once_bytes_are_staged_or_published(name: str) -> None:
    bench = PolicyBench()
    for image in (await bench.staged("staged", SIGNED), await bench.published("published", SIGNED)):
        edited = replace(image.attributes, properties={**SIGNED, name: "other"})
        removed = replace(image.attributes, properties={key: value for key, value in SIGNED.items() if key != name})
        for attributes in (edited, removed):
            with pytest.raises(SignaturePropertiesFixedError):
                await bench.do(image.id, DEMO, UpdateImage(attributes, ("properties",)))


# --- all images -------------------------------------------------------------------------------------------------------


async def test_a_replay_judges_every_image_by_its_projects_policy(tmp_path: Path) -> None:
    bench = PolicyBench(
        trusted_roots_dir=roots_of(tmp_path / "roots", ROOT.certificate),
        projects={"acme": {"require_signature": True}},
    )
    signed = await bench.published("signed", SIGNED)
    plain = await bench.published("plain", {})
    acmes = await bench.published("acme's", {}, project=ACME)
    damaged = await bench.published("damaged", SIGNED, digest=OTHER_DIGEST)
    await bench.deleted(await bench.published("deleted", SIGNED))
    await bench.staged("never published", SIGNED)
    found = await verdicts(bench)
    reasons = {image: verdict.failure.reason if verdict.failure else "" for image, verdict in found.items()}
    assert reasons == {
        signed.id: "",
        plain.id: "",
        acmes.id: "SIGNATURE_MISSING",
        damaged.id: "SIGNATURE_INVALID",
    }


async def test_a_replay_may_be_of_one_project() -> None:
    bench = PolicyBench()
    await bench.published("demo's", SIGNED)
    acmes = await bench.published("acme's", SIGNED, project=ACME)
    assert list(await verdicts(bench, ACME)) == [acmes.id]


async def test_a_replay_ends_at_the_head_that_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_tests, "PROGRESS_EVERY", 2)
    bench = PolicyBench()
    assert await replayed(bench) == [ReplayStep(0, 0)]
    await bench.published("one", SIGNED)
    head = await bench.log.head()
    steps = await replayed(bench)
    assert steps[-1] == ReplayStep(head, head)
    assert [step.position for step in steps if not step.verdict][:-1] == list(range(2, head, 2))


async def test_an_image_whose_history_is_damaged_is_refused_and_the_others_are_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = PolicyBench()
    broken, sound = await bench.published("broken", SIGNED), await bench.published("sound", SIGNED)
    plain = bench.journal.load

    async def load(image_id: ImageId) -> object:
        if image_id == broken.id:
            raise LogCorruptError("the chain of hashes is broken")
        return await plain(image_id)

    monkeypatch.setattr(bench.journal, "load", load)
    found = await verdicts(bench)
    assert found[broken.id].failure is not None
    assert found[broken.id].failure.reason == "LOG_CORRUPT"  # type: ignore[union-attr]
    assert found[sound.id].failure is None


async def test_a_replay_does_not_pass_over_a_key_manager_that_is_down() -> None:
    bench = PolicyBench()
    await bench.published("one", SIGNED)
    bench.certificates.is_away = True
    with pytest.raises(KeyManagerUnavailableError):
        await verdicts(bench)


# --- the calls --------------------------------------------------------------------------------------------------------


async def test_only_an_administrator_replays() -> None:
    bench = PolicyBench()
    image = await bench.published("one", SIGNED)
    with pytest.raises(NotPermittedError):
        async for _ in bench.calls.replay_policy(pb.ReplayPolicyRequest(), context()):
            pass
    told = [message async for message in bench.calls.replay_policy(pb.ReplayPolicyRequest(), context(is_admin=True))]
    (verdict,) = [message.verdict for message in told if message.HasField("verdict")]
    assert (verdict.image_id, verdict.project, verdict.allowed) == (image.id, "demo", True)
    assert verdict.verification.certificate_id == "publisher"
    assert told[-1].position == told[-1].head == await bench.log.head()


async def test_a_replay_of_what_is_no_project_is_refused() -> None:
    with pytest.raises(InvalidIdentifierError):
        async for _ in PolicyBench().calls.replay_policy(
            pb.ReplayPolicyRequest(project="not a project"), context(is_admin=True)
        ):
            pass


async def test_a_test_answers_a_refusal_as_a_verdict() -> None:
    bench = PolicyBench(require_signature=True)
    image = await bench.published("plain", {})
    verdict = await bench.calls.test_policy(pb.TestPolicyRequest(image_id=image.id), context())
    assert not verdict.allowed
    assert verdict.failure.reason == "SIGNATURE_MISSING"
    assert verdict.failure.evidence["policy"] == verdict.policy
    with pytest.raises(InvalidIdentifierError):
        await bench.calls.test_policy(pb.TestPolicyRequest(image_id="../x"), context())
