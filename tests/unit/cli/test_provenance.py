"""`tintype image provenance` and `download --verify`: wrong use, and what needs no service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Tintype
from tests.unit.client.fake_services import FakeServices
from tests.unit.trust.roads import RoadCase
from tintype.cli.exit_codes import ExitCode
from tintype.client import write_bundle

DOWNLOAD = ("image", "download", "x", "--file", "copy")
PROVENANCE = ("image", "provenance")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.json"
    path.write_bytes(write_bundle(RoadCase().provenance()))
    return path


@pytest.mark.parametrize(
    "words",
    [
        (*DOWNLOAD, "--no-verify", "--trust-store", "trust"),
        (*DOWNLOAD, "--no-verify", "--trusted-certificate", "a"),
        (*DOWNLOAD, "--no-verify", "--allow-unsigned"),
        (*DOWNLOAD, "--allow-unsigned"),
        (*DOWNLOAD, "--trust-store", "trust", "--trusted-certificate", "a"),
        (*DOWNLOAD, "--verify", "--offset", "1"),
        (*DOWNLOAD, "--verify", "--length", "1"),
        ("image", "download", "x", "--file", "-", "--verify"),
        ("image", "download", "x", "--file", "-", "--trust-store", "trust"),
        ("image", "download", "x", "--file", "/dev/full", "--verify"),
        PROVENANCE,
        (*PROVENANCE, "--bundle", "bundle.json", "--verify"),
        (*PROVENANCE, "--bundle", "bundle.json", "--file", "disk"),
        (*PROVENANCE, "--bundle", "bundle.json", "--trusted-certificate", "a"),
        (*PROVENANCE, "--bundle", "bundle.json", "--save", "other.json"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tintype: Tintype, bundle: Path, words: tuple[str, ...], services: FakeServices
) -> None:
    outcome = tintype(*words)
    assert outcome.code == ExitCode.USAGE, outcome
    assert services.requests == []


def test_a_bundle_is_shown_without_configuration_or_service(
    tintype: Tintype, config: Path, bundle: Path, services: FakeServices
) -> None:
    config.unlink()
    shown = tintype(*PROVENANCE, "--bundle", str(bundle))
    assert shown.code == ExitCode.OK
    assert "CN=Publisher" in shown.out and "nothing of this is proven" in shown.out
    assert services.requests == []


@pytest.mark.parametrize(
    ("content", "reason", "code"),
    [(b"{}", "BUNDLE_INVALID", ExitCode.CONTENT), (b"x" * 3_000_000, "BUNDLE_INVALID", ExitCode.CONTENT)],
    ids=["no bundle", "too large"],
)
def test_a_file_that_is_no_bundle_is_refused(
    tintype: Tintype, bundle: Path, content: bytes, reason: str, code: ExitCode
) -> None:
    bundle.write_bytes(content)
    outcome = tintype(*PROVENANCE, "--bundle", str(bundle), "-o", "json")
    assert (outcome.code, outcome.error["reason"]) == (code, reason)


def test_an_empty_id_does_not_stand_for_every_image(tintype: Tintype, bundle: Path, tmp_path: Path) -> None:
    """A script whose variable is not set asks for no image, and gets none."""
    outcome = tintype("image", "provenance", "", "--bundle", str(bundle), "--trust-store", str(tmp_path))
    assert (outcome.code, outcome.out) == (ExitCode.USAGE, "")
    assert "IMAGE is empty" in outcome.err


def test_a_trust_store_that_is_not_there_is_wrong_usage(tintype: Tintype, bundle: Path) -> None:
    outcome = tintype(*PROVENANCE, "--bundle", str(bundle), "--trust-store", "absent", "-o", "json")
    assert (outcome.code, outcome.error["reason"]) == (ExitCode.USAGE, "TRUST_STORE")


def test_a_missing_extra_is_named(tintype: Tintype, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tintype.trust")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    outcome = tintype(*PROVENANCE, "--bundle", str(bundle), "-o", "json")
    assert (outcome.code, outcome.error["reason"]) == (ExitCode.USAGE, "EXTRA_MISSING")
    assert "tintype[trust]" in str(outcome.error["hint"])
