"""What `make up` makes once: secret, kept, and good for what it is for."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from tintype.client.config import load_config
from tintype.codec.tokens import digest_of
from tintype.embedded.authority import open_authority
from tintype.runtime.tokens import read_tokens
from tools.make_secrets import NAMES, make_secrets

ENDPOINT, NATS = "127.0.0.1:9292", "127.0.0.1:4222"


def contents(directory: Path) -> dict[Path, bytes]:
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_nobody_else_may_read_them(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    make_secrets(directory, ENDPOINT, NATS)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    secret = [path for path in contents(directory) if path.suffix != ".crt"]
    assert {stat.S_IMODE((directory / path).stat().st_mode) for path in secret} == {0o600}


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    make_secrets(tmp_path, ENDPOINT, NATS)
    before = contents(tmp_path)
    make_secrets(tmp_path, ENDPOINT, NATS)
    assert contents(tmp_path) == before


def test_every_server_proves_its_name_with_the_one_authority(tmp_path: Path) -> None:
    make_secrets(tmp_path, ENDPOINT, NATS)
    verifying = PolicyBuilder().store(Store([certificate(tmp_path / "ca.crt")]))
    for container, names in NAMES.items():
        if container != "operator":
            shown = certificate(tmp_path / container / "tls/tls.crt")
            for name in names[:1]:
                verifying.build_server_verifier(x509.DNSName(name)).verify(shown, [])
            verifying.build_client_verifier().verify(shown, [])


def test_a_further_name_makes_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    make_secrets(tmp_path, ENDPOINT, NATS)
    before = contents(tmp_path)
    make_secrets(tmp_path, ENDPOINT, NATS, ["images.example.org"])
    after = contents(tmp_path)
    changed = {path for path in after if after[path] != before[path]}
    assert changed == {Path(name, "tls", file) for name in ("router", "nats") for file in ("tls.crt", "tls.key")}


def test_certificates_that_end_soon_are_made_anew(tmp_path: Path) -> None:
    open_authority(tmp_path).issue(tmp_path / "catalog/tls", ["catalog"], lifetime=timedelta(days=20))
    before = certificate(tmp_path / "catalog/tls/tls.crt")
    make_secrets(tmp_path, ENDPOINT, NATS)
    assert certificate(tmp_path / "catalog/tls/tls.crt").serial_number != before.serial_number


def test_operators_client_is_ready_with_a_token_that_services_know_by_its_digest(tmp_path: Path) -> None:
    make_secrets(tmp_path, ENDPOINT, NATS)
    config = load_config(tmp_path / "client.toml")
    assert (config.endpoint, config.tls, config.nats) == (ENDPOINT, True, f"tls://{NATS}")
    token = (tmp_path / "operator/token").read_text()
    for service in ("catalog", "importer", "converter", "signer"):
        path = tmp_path / service / "auth/tokens.toml"
        assert token not in path.read_text()
        grant = read_tokens(path)[digest_of(token)]
        assert (grant.actor, grant.projects, grant.admin) == ("operator", ("*",), True)


def test_operators_own_authority_issues_for_itself(tmp_path: Path) -> None:
    make_secrets(tmp_path, ENDPOINT, NATS)
    (tmp_path / "ca.key").unlink()
    before = contents(tmp_path)
    make_secrets(tmp_path, ENDPOINT, NATS, ["images.example.org"])
    assert contents(tmp_path) == before
    (tmp_path / "signer/tls/tls.key").unlink()
    with pytest.raises(FileNotFoundError, match=r"signer/tls/tls\.key is missing"):
        make_secrets(tmp_path, ENDPOINT, NATS)


def test_no_container_has_the_key_of_the_authority_or_of_another(tmp_path: Path) -> None:
    make_secrets(tmp_path, ENDPOINT, NATS)
    keys = {path.read_bytes(): path for path in tmp_path.rglob("*.key")}
    assert len(keys) == len(NAMES) + 1
    assert not list(tmp_path.glob("*/**/ca.key"))
