"""Whose rules hold for which project, and that they are those of the files as they are now."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from services.signer.settings import SignerSection
from services.signer.trust import Trust
from tests.unit.signer.policy_bench import (
    ACME,
    DEMO,
    DIGEST,
    OTHER_DIGEST,
    ROOT,
    SIGNED,
    SIGNER,
    PolicyBench,
    context,
    roots_of,
)
from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.domain.errors import (
    CertificateExpiredError,
    CertificateRevokedError,
    CertificateUntrustedError,
    KeyManagerUnavailableError,
    SignatureIncompleteError,
    SignatureInvalidError,
    SignatureMissingError,
    SignerNotAllowedError,
    TrustStoreError,
)
from tintype.domain.events import Verdict
from tintype.testing.certificates import pem, root_authority
from tintype.testing.clock import FakeClock
from tintype.trust.signatures import fingerprint_of
from tintype.trust.signing import signature_properties

STAGED = {DIGEST.algorithm: DIGEST.hex}
FINGERPRINT = fingerprint_of(SIGNER)
WITH_COLONS = ":".join(FINGERPRINT[i : i + 2].upper() for i in range(0, 64, 2))


async def test_without_settings_a_certificate_that_is_known_is_trusted() -> None:
    judgment = await PolicyBench().verifier.verify(DEMO, SIGNED, STAGED)
    assert judgment.verification.verdict is Verdict.SIGNED
    assert len(judgment.evidence.certificates) == 1


async def test_a_project_has_its_own_rules_where_it_has_any(tmp_path: Path) -> None:
    bench = PolicyBench(
        trusted_roots_dir=roots_of(tmp_path / "site", root_authority("Site").certificate),
        require_signature=True,
        projects={"acme": {"trusted_roots_dir": roots_of(tmp_path / "acme", ROOT.certificate)}},
    )
    assert len((await bench.verifier.verify(ACME, SIGNED, STAGED)).evidence.certificates) == 2
    with pytest.raises(CertificateUntrustedError):
        await bench.verifier.verify(DEMO, SIGNED, STAGED)
    with pytest.raises(SignatureMissingError):  # what a project does not say is the site's
        await bench.verifier.verify(ACME, {}, STAGED)


async def test_a_project_may_ask_for_less() -> None:
    bench = PolicyBench(
        require_signature=True,
        allowed_signers=["ab" * 32],
        projects={"acme": {"require_signature": False, "allowed_signers": []}},
    )
    assert (await bench.verifier.verify(ACME, {}, STAGED)).verification.verdict is Verdict.UNSIGNED
    await bench.verifier.verify(ACME, SIGNED, STAGED)
    with pytest.raises(SignerNotAllowedError):
        await bench.verifier.verify(DEMO, SIGNED, STAGED)


async def test_allowed_signers_may_be_written_with_colons() -> None:
    bench = PolicyBench(allowed_signers=WITH_COLONS)
    await bench.verifier.verify(DEMO, SIGNED, STAGED)


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_signers": ["nonsense"]},
        {"projects": {"not a project": {}}},
        {"projects": {"acme": {"unknown": 1}}},
        {"max_certificate_age_days": 0},
        {"clock_skew_s": -1},
        {"clock_skew_s": 100_000},
        {"max_chain_length": 0},
        {"max_chain_length": 11},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SignerSection.model_validate(settings)


def test_a_site_with_barbican_must_say_whom_it_trusts(tmp_path: Path) -> None:
    barbican = {"auth_url": "https://keystone.example.org/v3", "username": "tintype", "project": "service",
                "password_file": str(tmp_path / "password")}  # fmt: skip
    with pytest.raises(ValidationError, match="trusted_roots_dir is missing"):
        SignerSection.model_validate({"barbican": barbican})
    assert (
        SignerSection.model_validate({"barbican": barbican, "trusted_roots_dir": tmp_path}).policy("x").requires_chain
    )


async def test_the_evidence_is_the_policy_and_the_chain(tmp_path: Path) -> None:
    bench = PolicyBench(trusted_roots_dir=roots_of(tmp_path / "roots", ROOT.certificate))
    evidence = (await bench.verifier.verify(DEMO, SIGNED, STAGED)).evidence
    assert evidence.policy == (await bench.trust.rules(DEMO)).fingerprint
    assert evidence.certificates == tuple(each.public_bytes(Encoding.DER) for each in (SIGNER, ROOT.certificate))
    assert (await bench.verifier.verify(DEMO, {}, STAGED)).evidence.policy == evidence.policy


async def test_every_refusal_names_the_policy() -> None:
    bench = PolicyBench()
    policy = (await bench.trust.rules(DEMO)).fingerprint
    for properties, digests, error in (
        ({**SIGNED, "img_signature": ""}, STAGED, SignatureIncompleteError),
        (SIGNED, {OTHER_DIGEST.algorithm: OTHER_DIGEST.hex}, SignatureInvalidError),
    ):
        with pytest.raises(error) as caught:
            await bench.verifier.verify(DEMO, properties, digests)
        assert caught.value.evidence["policy"] == policy


async def test_roots_rotate_without_a_restart(tmp_path: Path) -> None:
    roots = roots_of(tmp_path / "roots", ROOT.certificate)
    bench = PolicyBench(trusted_roots_dir=roots)
    before = (await bench.verifier.verify(DEMO, SIGNED, STAGED)).evidence.policy
    new = root_authority("New")
    (roots / "new.pem").write_bytes(pem(new.certificate))
    both = (await bench.verifier.verify(DEMO, SIGNED, STAGED)).evidence.policy
    (roots / "roots.pem").unlink()
    with pytest.raises(CertificateUntrustedError) as caught:
        await bench.verifier.verify(DEMO, SIGNED, STAGED)
    assert len({before, both, caught.value.evidence["policy"]}) == 3


async def test_a_revocation_list_holds_from_the_moment_when_it_is_there(tmp_path: Path) -> None:
    roots = roots_of(tmp_path / "roots", ROOT.certificate)
    bench = PolicyBench(trusted_roots_dir=roots)
    await bench.verifier.verify(DEMO, SIGNED, STAGED)
    (roots / "root.crl").write_bytes(pem(ROOT.revocation_list(SIGNER)))
    with pytest.raises(CertificateRevokedError):
        await bench.verifier.verify(DEMO, SIGNED, STAGED)


async def test_files_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    bench = PolicyBench(trusted_roots_dir=roots_of(tmp_path / "roots", ROOT.certificate))
    assert (await bench.trust.rules(DEMO)).store.roots is (await bench.trust.rules(ACME)).store.roots


async def test_a_directory_that_somebody_is_at_work_in_makes_images_wait(tmp_path: Path) -> None:
    roots = roots_of(tmp_path / "roots", ROOT.certificate)
    bench = PolicyBench(trusted_roots_dir=roots)
    await bench.trust.prepare()
    half = pem(root_authority("New").certificate)[:200]
    (roots / "new.pem").write_bytes(half)
    with pytest.raises(KeyManagerUnavailableError, match=r"new\.pem") as caught:
        await bench.verifier.verify(DEMO, SIGNED, STAGED)
    assert caught.value.retryable
    (roots / "new.pem").unlink()
    await bench.verifier.verify(DEMO, SIGNED, STAGED)


async def test_a_directory_that_is_taken_away_trusts_nobody_by_mistake(tmp_path: Path) -> None:
    roots = roots_of(tmp_path / "roots", ROOT.certificate)
    bench = PolicyBench(trusted_roots_dir=roots)
    await bench.verifier.verify(DEMO, SIGNED, STAGED)
    os.rename(roots, tmp_path / "elsewhere")
    with pytest.raises(KeyManagerUnavailableError):
        await bench.verifier.verify(DEMO, SIGNED, STAGED)


@pytest.mark.parametrize("where", ["site", "project"])
async def test_a_bad_directory_is_named_at_the_start(tmp_path: Path, where: str) -> None:
    (tmp_path / "bad.pem").write_text("nonsense")
    own = {"trusted_roots_dir": tmp_path}
    settings = own if where == "site" else {"projects": {"acme": own}}
    trust = Trust(SignerSection.model_validate(settings), MemoryServiceKeys(MemoryKeyManager(FakeClock())))
    with pytest.raises(TrustStoreError, match=r"bad\.pem"):
        await trust.prepare()


async def test_images_wait_while_the_services_own_keys_are_away() -> None:
    bench = PolicyBench()
    bench.manager.is_away = True
    with pytest.raises(KeyManagerUnavailableError):
        await bench.verifier.verify(DEMO, SIGNED, STAGED)


async def test_a_key_of_the_service_signs_images_without_a_root(tmp_path: Path) -> None:
    bench = PolicyBench(trusted_roots_dir=roots_of(tmp_path / "roots", root_authority("Other").certificate))
    key = await bench.keys.rotate("tintype-1")
    bench.certificates.put("tintype-1", key.certificate)
    signature = await bench.keys.sign("tintype-1", DIGEST)
    properties = signature_properties(signature, DIGEST, key.key_type, "tintype-1")
    found = await bench.verifier.verify(DEMO, properties, STAGED)
    assert found.verification.certificate_id == "tintype-1"


async def test_a_caller_is_told_whom_its_project_trusts(tmp_path: Path) -> None:
    roots = roots_of(tmp_path / "roots", ROOT.certificate)
    (roots / "root.crl").write_bytes(pem(ROOT.revocation_list()))
    bench = PolicyBench(projects={"acme": {"trusted_roots_dir": roots, "allowed_signers": [WITH_COLONS]}})
    key = await bench.keys.rotate("tintype-1")
    told = await bench.calls.get_trust(pb.GetTrustRequest(), context("acme"))
    assert list(told.roots) == [pem(ROOT.certificate)]
    assert len(told.revocation_lists) == 1
    assert list(told.allowed_signers) == [FINGERPRINT]
    assert [(each.id, each.certificate) for each in told.service_keys] == [("tintype-1", key.certificate)]
    assert told.requires_chain
    assert told.policy == (await bench.trust.rules(ACME)).fingerprint
    other = await bench.calls.get_trust(pb.GetTrustRequest(), context("demo"))
    assert not other.roots
    assert not other.requires_chain


async def test_clocks_may_differ_by_the_settings_skew(tmp_path: Path) -> None:
    roots = roots_of(tmp_path / "roots", ROOT.certificate)
    bench = PolicyBench(trusted_roots_dir=roots, projects={"acme": {"clock_skew_s": 120}})
    bench.clock.advance(timedelta(days=1, seconds=60).total_seconds())
    await bench.verifier.verify(ACME, SIGNED, STAGED)
    with pytest.raises(CertificateExpiredError):
        await bench.verifier.verify(DEMO, SIGNED, STAGED)
