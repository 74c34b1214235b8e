"""The table [signer.barbican]: it says who asks, where, and with which password, or it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.signer.barbican_settings import BarbicanSection
from services.signer.settings import SignerSection, SignerSettings
from tintype.domain.errors import ConfigurationError
from tintype.runtime.settings import load

WHOLE = {
    "auth_url": "https://keystone.example.org/v3",
    "username": "signer",
    "project": "service",
    "password_file": "/run/secrets/barbican",
}


def test_without_a_table_there_is_no_barbican() -> None:
    assert not BarbicanSection().is_set


@pytest.mark.parametrize(
    "settings",
    [
        WHOLE,
        {**WHOLE, "username": "", "project": "", "application_credential_id": "1234"},
        {**WHOLE, "interface": "internal", "region": "one", "endpoint": "https://barbican.example.org"},
    ],
)
def test_a_whole_table_is_taken(settings: dict[str, object]) -> None:
    assert BarbicanSection.model_validate(settings).is_set


@pytest.mark.parametrize(
    "change",
    [
        {"auth_url": ""},
        {"auth_url": "keystone.example.org"},
        {"auth_url": "https://signer:secret@keystone.example.org/v3"},
        {"endpoint": "ftp://barbican.example.org"},
        {"username": ""},
        {"project": ""},
        {"password_file": None},
        {"application_credential_id": "1234"},
        {"interface": "secret"},
        {"timeout_s": 0},
        {"cache_s": -1},
        {"cache_s": 100_000},
        {"password": "secret"},
    ],
)
def test_half_a_table_is_an_error(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BarbicanSection.model_validate({**WHOLE, **change})


def test_the_file_and_the_environment_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "tintype.toml"
    config.write_text(
        '[signer]\ntrusted_roots_dir = "/etc/tintype/roots"\n'
        '[signer.barbican]\nauth_url = "https://keystone.example.org/v3"\nusername = "signer"\nproject = "service"\n'
    )
    with pytest.raises(ConfigurationError, match="password_file"):
        load(SignerSettings, config)
    monkeypatch.setenv("TINTYPE_SIGNER__BARBICAN__PASSWORD_FILE", "/run/secrets/barbican")
    assert load(SignerSettings, config).signer.barbican.password_file == Path("/run/secrets/barbican")


def test_a_barbican_alone_makes_nobody_trusted() -> None:
    """Every user of a cloud can put a certificate there, and show it to the signer."""
    for more in ({}, {"allowed_signers": "ab" * 32}):  # a project may have a list of its own
        with pytest.raises(ValidationError, match="trusted_roots_dir"):
            SignerSection.model_validate({"barbican": WHOLE, **more})
    section = SignerSection.model_validate({"barbican": WHOLE, "trusted_roots_dir": "/etc/tintype/roots"})
    assert section.barbican.is_set
