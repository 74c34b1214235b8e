"""Signing and keys as a user types them."""

from __future__ import annotations

import base64
import json
import os
import shlex
from pathlib import Path
from shlex import split

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from typer.testing import CliRunner

from tests.unit.cli.conftest import Outcome, Tintype
from tests.unit.client.fake_services import FakeServices
from tintype.cli import image_sign, signing_options
from tintype.cli.app import app
from tintype.cli.exit_codes import ExitCode
from tintype.domain.attributes import SIGNATURE_PROPERTIES
from tintype.ports.service_keys import ServiceKey

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
DISK = b"disk" * 100_000
FORMATS = split("--disk-format raw --container-format bare")


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests have no terminal, wherever they run."""
    for module in (signing_options, image_sign):
        monkeypatch.setattr(module, "passphrase_prompt", lambda: None)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").write_bytes(DISK)
    return tmp_path / "disk"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return key_file(tmp_path / "publisher.key", None)


def key_file(path: Path, passphrase: bytes | None) -> Path:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    path.touch(mode=0o600)
    path.write_bytes(KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return path


def verify(properties: dict[str, str], algorithm: hashes.HashAlgorithm) -> None:
    scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)
    KEY.public_key().verify(base64.b64decode(properties["img_signature"]), DISK, scheme, algorithm)


def test_upload_is_signed_by_the_service(tintype: Tintype, services: FakeServices, disk: Path) -> None:
    outcome = tintype("image", "upload", str(disk), *FORMATS, "--sign", "--no-wait", "-o", "json")
    assert outcome.code == 0
    properties = outcome.answer["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(SIGNATURE_PROPERTIES)
    assert properties["img_signature_certificate_uuid"] == "service-key-1"


def test_upload_is_signed_by_a_private_key(tintype: Tintype, disk: Path, key: Path) -> None:
    words = ("--sign-key", str(key), "--sign-certificate", "publisher-1", "--hash-method", "sha-512")
    outcome = tintype("image", "upload", str(disk), *FORMATS, *words, "--no-wait", "-o", "json")
    assert outcome.code == 0
    properties = outcome.answer["properties"]
    assert isinstance(properties, dict)
    assert (properties["img_signature_hash_method"], properties["img_signature_key_type"]) == ("SHA-512", "RSA-PSS")
    verify(properties, hashes.SHA512())


def test_standard_input_is_signed_too(tintype: Tintype, key: Path) -> None:
    words = ("--sign-key", str(key), "--sign-certificate", "publisher-1")
    outcome = tintype("image", "upload", "-", *FORMATS, *words, "--no-wait", "-o", "json", stdin=DISK)
    properties = outcome.answer["properties"]
    assert isinstance(properties, dict)
    verify(properties, hashes.SHA256())


def test_staged_bytes_are_signed_too(tintype: Tintype, services: FakeServices, disk: Path) -> None:
    outcome = tintype("image", "create-via-import", *FORMATS, "--file", str(disk), "--sign", "-o", "json")
    assert outcome.code == 0
    properties = outcome.answer["properties"]
    assert isinstance(properties, dict)
    assert properties["img_signature_certificate_uuid"] == "service-key-1"


@pytest.mark.parametrize(
    "words",
    [
        "image upload disk --disk-format raw --container-format bare --sign --sign-key k --sign-certificate c",
        "image upload disk --disk-format raw --container-format bare --sign-key k",
        "image upload disk --disk-format raw --container-format bare --sign-certificate c",
        "image upload disk --disk-format raw --container-format bare --sign --passphrase-file p",
        "image upload disk --disk-format raw --container-format bare --sign --hash-method md5",
        "image upload disk --disk-format raw --container-format bare --sign --hash-method SHA-384",
        "image create-via-import --disk-format raw --container-format bare --uri https://example.org/disk --sign",
        "image upload disk --disk-format raw --container-format bare --expected-digest sha256:00",
        "image create-via-import --disk-format raw --container-format bare --uri http://x/d --expected-digest x",
        "image sign disk --key k",
        "image sign disk --certificate-id c",
        "image sign disk --key k --certificate-id 'a b'",
        "image sign disk --key k --certificate-id ../c",
    ],
)
def test_wrong_usage_makes_no_image(tintype: Tintype, services: FakeServices, disk: Path, words: str) -> None:
    assert tintype(*split(words)).code == ExitCode.USAGE
    assert services.images == {}


def test_key_that_cannot_be_used_makes_no_image(
    tintype: Tintype, services: FakeServices, disk: Path, key: Path
) -> None:
    key.chmod(0o640)
    words = ("--sign-key", str(key), "--sign-certificate", "publisher-1")
    outcome = tintype("image", "upload", str(disk), *FORMATS, *words, "-o", "json")
    assert (outcome.code, outcome.error["reason"]) == (ExitCode.REFUSED, "KEY_PERMISSIONS")
    assert services.images == {}


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tintype:
    """The command line without any configuration, so that it can reach no service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINTYPE_CONFIG", str(tmp_path / "absent.toml"))

    def run(*arguments: str, stdin: bytes = b"") -> Outcome:
        result = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="tintype")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.mark.parametrize("source", ["file", "-"])
def test_file_is_signed_offline(offline: Tintype, disk: Path, key: Path, source: str) -> None:
    words = ("--key", str(key), "--certificate-id", "publisher-1", "--hash-method", "SHA-384", "-o", "json")
    outcome = offline("image", "sign", str(disk) if source == "file" else "-", *words, stdin=DISK)
    assert outcome.code == 0
    properties = {name: str(value) for name, value in outcome.answer.items()}
    assert tuple(properties) == SIGNATURE_PROPERTIES
    assert properties["img_signature_certificate_uuid"] == "publisher-1"
    verify(properties, hashes.SHA384())


def test_words_are_ready_for_another_command(offline: Tintype, disk: Path, key: Path) -> None:
    outcome = offline("image", "sign", str(disk), "--key", str(key), "--certificate-id", "publisher-1", "--words")
    words = shlex.split(outcome.out)
    assert words[::2] == ["--property"] * 4
    assert words == outcome.out.split()  # as `$(…)` splits them
    verify(dict(word.split("=", 1) for word in words[1::2]), hashes.SHA256())


def test_person_is_shown_the_properties_and_the_words(offline: Tintype, disk: Path, key: Path) -> None:
    outcome = offline("image", "sign", str(disk), "--key", str(key), "--certificate-id", "publisher-1")
    assert "img_signature_hash_method" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("--property img_signature=")


def test_missing_file_and_missing_key_are_said(offline: Tintype, disk: Path, key: Path) -> None:
    for file, path in (("absent", str(key)), (str(disk), "absent")):
        outcome = offline("image", "sign", file, "--key", path, "--certificate-id", "c", "-o", "json")
        assert (outcome.code, outcome.error["reason"]) == (ExitCode.REFUSED, "LOCAL_FILE")
        assert outcome.error["hint"]


def test_passphrase_comes_from_a_file_and_is_never_an_argument(offline: Tintype, disk: Path, tmp_path: Path) -> None:
    key = key_file(tmp_path / "encrypted.key", b"open sesame")
    words = ("--key", str(key), "--certificate-id", "publisher-1", "-o", "json")
    missing = offline("image", "sign", str(disk), *words)
    assert (missing.code, missing.error["reason"]) == (ExitCode.REFUSED, "KEY_PASSPHRASE")
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_text("open sesame\n")
    outcome = offline("image", "sign", str(disk), *words, "--passphrase-file", str(tmp_path / "passphrase"))
    verify({name: str(value) for name, value in outcome.answer.items()}, hashes.SHA256())
    (tmp_path / "passphrase").chmod(0o644)
    outcome = offline("image", "sign", str(disk), *words, "--passphrase-file", str(tmp_path / "passphrase"))
    assert outcome.error["reason"] == "KEY_PERMISSIONS"
    assert "sesame" not in outcome.err


def test_passphrase_is_asked_for_at_the_terminal(
    offline: Tintype, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_file(tmp_path / "encrypted.key", b"open sesame")
    monkeypatch.setattr(image_sign, "passphrase_prompt", lambda: lambda what: "open sesame")
    outcome = offline("image", "sign", str(disk), "--key", str(key), "--certificate-id", "c", "-o", "json")
    verify({name: str(value) for name, value in outcome.answer.items()}, hashes.SHA256())


def test_keys_are_listed_newest_first(tintype: Tintype) -> None:
    made = tintype("key", "rotate", "--request-id", "one", "-o", "json").answer
    again = tintype("key", "rotate", "--request-id", "one", "-o", "json").answer
    assert made == again
    listed = json.loads(tintype("key", "list", "-o", "json").out)
    assert [(key["id"], key["active"]) for key in listed] == [(made["id"], True), ("service-key-1", False)]
    table = tintype("key", "list").out
    assert table.index(str(made["id"])) < table.index("service-key-1")
    assert "BEGIN CERTIFICATE" not in table
    assert "BEGIN CERTIFICATE" in str(made["certificate"])
    told = tintype("key", "rotate", "--request-id", "one").out
    assert str(made["id"]) in told and "BEGIN CERTIFICATE" not in told


def test_exported_keys_are_a_part_of_a_trust_store(tintype: Tintype, tmp_path: Path) -> None:
    tintype("key", "rotate", "--request-id", "one")
    outcome = tintype("key", "export", "trust")
    assert outcome.code == 0
    found = sorted((tmp_path / "trust" / "service-keys").iterdir())
    assert [path.name for path in found] == ["key-of-one.pem", "service-key-1.pem"]
    assert outcome.out.split() == ["trust/service-keys/key-of-one.pem", "trust/service-keys/service-key-1.pem"]
    for path in found:
        public = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
    assert tintype("key", "export", "trust").code == 0  # again


def test_export_writes_through_no_link(tintype: Tintype, tmp_path: Path) -> None:
    (tmp_path / "service-keys").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "service-keys" / "service-key-1.pem").symlink_to(tmp_path / "precious")
    assert tintype("key", "export").code == 0
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "service-keys" / "service-key-1.pem").is_symlink()


@pytest.mark.parametrize("key_id", ["../escape", "/tmp/escape", "a/b", ".hidden", "", "a" * 200])
def test_key_id_of_a_hostile_service_becomes_no_path(
    tintype: Tintype, services: FakeServices, tmp_path: Path, key_id: str
) -> None:
    private, key = services.keys._manager.held["service-key-1"]
    services.keys._manager.held = {
        key_id: (private, ServiceKey(key_id, key.key_type, key.certificate, key.created_at, is_active=True))
    }
    outcome = tintype("key", "export", "trust")
    assert outcome.code == ExitCode.REFUSED
    assert os.listdir(tmp_path / "trust" / "service-keys") == []
