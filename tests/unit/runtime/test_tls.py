"""Certificates are checked when they are read, and read again when they change."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from tintype.domain.errors import ConfigurationError
from tintype.embedded.authority import Authority, open_authority
from tintype.runtime import reloading
from tintype.runtime.settings import TlsSettings
from tintype.runtime.tls import ClientTls, certificates_in_use, server_credentials


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return open_authority(tmp_path / "ca")


def issued(authority: Authority, directory: Path, *, lifetime: timedelta = timedelta(days=90)) -> TlsSettings:
    """A certificate for this machine, and the settings that name it."""
    authority.issue(directory, ["localhost", "127.0.0.1"], lifetime=lifetime)
    return TlsSettings(certificate=directory / "tls.crt", key=directory / "tls.key", ca=directory / "ca.crt")


def test_without_a_certificate_nothing_is_encrypted() -> None:
    assert server_credentials(TlsSettings()) is None


def test_expired_certificate_is_named(authority: Authority, tmp_path: Path) -> None:
    settings = issued(authority, tmp_path / "old", lifetime=timedelta(days=-1))
    with pytest.raises(
        ConfigurationError, match=r"^tls\.certificate: .*old/tls\.crt: the certificate of CN=localhost expired on 20"
    ):
        server_credentials(settings)
    with pytest.raises(ConfigurationError, match=r"^tls\.certificate: .*expired on 20"):
        ClientTls(settings)


def test_ca_that_has_not_begun_is_named(authority: Authority, tmp_path: Path) -> None:
    settings = issued(authority, tmp_path / "service")
    past = authority.certificate.not_valid_before_utc - timedelta(days=1)
    with pytest.raises(ConfigurationError, match=r"^tls\.ca: .*CN=Tintype throw-away CA is valid only from"):
        ClientTls(settings, now=lambda: past)


def test_expired_ca_beside_its_follower_is_no_error(authority: Authority, tmp_path: Path) -> None:
    settings = issued(authority, tmp_path / "service")
    authority.issue(tmp_path / "expired", ["an expired CA"], lifetime=timedelta(days=-1))
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes((tmp_path / "expired" / "tls.crt").read_bytes() + authority.certificate_file.read_bytes())
    ClientTls(settings.model_copy(update={"ca": bundle})).context()
    alone = settings.model_copy(update={"ca": tmp_path / "expired" / "tls.crt"})
    with pytest.raises(ConfigurationError, match=r"^tls\.ca: .* expired on"):
        ClientTls(alone)


@pytest.mark.parametrize(
    ("setting", "content", "message"),
    [
        ("certificate", None, r"^tls\.certificate: .*x cannot be read: No such file"),
        ("certificate", b"", r"^tls\.certificate: .*x holds no certificate in PEM"),
        ("certificate", b"x" * (1024 * 1024 + 1), r"^tls\.certificate: .*x is larger than"),
        ("key", b"nothing", r"^tls\.key: .*x holds no private key in PEM without a password"),
        ("key", None, r"^tls\.key: .*x cannot be read"),
        ("client_ca", b"\xff\x00", r"^tls\.client_ca: .*x holds no certificate"),
        (
            "ca",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            r"^tls\.ca: .*x holds no certificate",
        ),
    ],
)
def test_file_that_is_none_is_named(
    authority: Authority, tmp_path: Path, setting: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    settings = issued(authority, tmp_path / "service").model_copy(update={setting: tmp_path / "x"})
    with pytest.raises(ConfigurationError, match=message):
        ClientTls(settings) if setting == "ca" else server_credentials(settings)


def test_key_of_another_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    one, other = issued(authority, tmp_path / "one"), issued(authority, tmp_path / "other")
    with pytest.raises(ConfigurationError, match="is not the key of the certificate"):
        server_credentials(one.model_copy(update={"key": other.key}))


def test_half_of_a_rotation_changes_nothing(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "LOOK_INTERVAL_S", 0.0)
    settings = issued(authority, tmp_path / "one")
    newer = issued(authority, tmp_path / "two", lifetime=timedelta(days=180))
    assert settings.certificate and settings.key and newer.certificate and newer.key
    client = ClientTls(settings)
    before = client.context()
    told = certificates_in_use()
    settings.certificate.write_bytes(newer.certificate.read_bytes())
    assert client.context() is before
    assert certificates_in_use() == told
    settings.key.write_bytes(newer.key.read_bytes())
    after = client.context()
    assert after is not before
    assert client.context() is after
    assert certificates_in_use() != told


def test_own_cas_are_trusted_alone(authority: Authority, tmp_path: Path) -> None:
    context = ClientTls(issued(authority, tmp_path / "service")).context()
    assert [ca["subject"] for ca in context.get_ca_certs()] == [((("commonName", "Tintype throw-away CA"),),)]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_authority_keeps_what_is_good_and_renews_what_is_not(authority: Authority, tmp_path: Path) -> None:
    target = tmp_path / "service"
    authority.issue(target, ["one"])
    first = (target / "tls.crt").read_bytes()
    open_authority(authority.directory).issue(target, ["one"])
    assert (target / "tls.crt").read_bytes() == first
    authority.issue(target, ["one", "two"])
    second = (target / "tls.crt").read_bytes()
    assert second != first
    open_authority(tmp_path / "another").issue(target, ["one", "two"])
    assert (target / "tls.crt").read_bytes() != second
    assert (target / "tls.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("lost", ["tls.crt", "tls.key", "ca.crt"])
def test_authority_writes_all_anew_where_a_file_is_missing(authority: Authority, tmp_path: Path, lost: str) -> None:
    settings = issued(authority, tmp_path / "service")
    (tmp_path / "service" / lost).unlink()
    issued(authority, tmp_path / "service")
    ClientTls(settings).context()


def test_cas_may_have_names_in_any_language_between_them(authority: Authority, tmp_path: Path) -> None:
    settings = issued(authority, tmp_path / "service")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes("# Főtanúsítvány\n".encode() + authority.certificate_file.read_bytes())
    trusted = ClientTls(settings.model_copy(update={"ca": bundle})).context().get_ca_certs()
    assert len(trusted) == 1
