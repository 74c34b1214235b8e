"""What the environment and the file may say, and how a wrong word is answered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from services.catalog.settings import CatalogSettings
from services.converter.settings import ConverterSettings
from services.importer.settings import ImporterSettings
from services.signer.settings import SignerSettings
from tintype.adapters.store_settings import StoreUserSettings
from tintype.domain.errors import ConfigurationError
from tintype.runtime.settings import (
    CommaSeparated,
    ServiceSettings,
    Settings,
    load,
)
from tintype.runtime.settings_description import describe, settings_of


class FetcherSection(ServiceSettings):
    """A section with a list, an optional number, and what a service has anyway."""

    allowed_hosts: CommaSeparated = Field(default=(), description="Hosts.")
    limit: int | None = Field(default=None, description="A limit.")


class FetcherSettings(StoreUserSettings):
    """A service called importer."""

    importer: FetcherSection = FetcherSection()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests are not the tests'."""
    for name in [name for name in os.environ if name.startswith("TINTYPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TINTYPE_STORES__MAIN__PATH", "/srv/images")


def written(directory: Path, text: str) -> Path:
    """A settings file."""
    path = directory / "settings.toml"
    path.write_text(text)
    return path


def test_defaults_hold_where_nothing_is_said() -> None:
    settings = load(FetcherSettings, None)
    assert settings.importer.listen == "127.0.0.1:0"
    assert settings.importer.worker.max_attempts == 5
    assert settings.nats.url == "nats://127.0.0.1:4222"


def test_file_is_over_the_default_and_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, '[importer]\nconcurrency = 7\nlease_s = 20\n[nats]\nurl = "nats://file:1"\n')
    monkeypatch.setenv("TINTYPE_IMPORTER__CONCURRENCY", "9")
    settings = load(FetcherSettings, file)
    assert settings.importer.concurrency == 9
    assert settings.importer.lease_s == 20
    assert settings.nats.url == "nats://file:1"


def test_list_is_comma_separated_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_IMPORTER__ALLOWED_HOSTS", "127.0.0.1, 10.0.0.0/8,")
    assert load(FetcherSettings, None).importer.allowed_hosts == ("127.0.0.1", "10.0.0.0/8")


def test_list_is_an_array_in_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, '[importer]\nallowed_hosts = ["127.0.0.1", "::1"]\n')
    assert load(FetcherSettings, file).importer.allowed_hosts == ("127.0.0.1", "::1")


def test_settings_are_frozen() -> None:
    settings = load(FetcherSettings, None)
    with pytest.raises(ValidationError):
        settings.importer.concurrency = 1


def test_sections_of_other_services_are_not_read(tmp_path: Path) -> None:
    file = written(tmp_path, '[catalog]\nwhatever = "it is"\n')
    assert load(FetcherSettings, file).importer.concurrency == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[importer]\nlistn = 1\n", "importer.listn: no such setting"),
        ("[stores.main]\npth = 1\n", "stores.main.pth: no such setting"),
        ("[imprter]\nlisten = 1\n", "no such section"),
        ('[importer]\nconcurrency = "many"\n', "importer.concurrency: "),
        ("[importer]\nconcurrency = 0\n", "importer.concurrency: "),
        ("importer = 3\n", "importer: "),
        ('[importer]\nlisten = "localhost"\n', "is not HOST:PORT"),
        ('[importer]\nlisten = "127.0.0.1:99999"\n', "is not HOST:PORT"),
        ('[stores.other]\npath = "/x"\n', "exactly one must have default"),
        ("".join(f'[stores.store-{n}]\npath = "/x"\n' for n in range(32)), "33 stores are set, and there can be 32"),
        ('[stores."../x"]\npath = "/x"\ndefault = true\n', "store name"),
        ("[importer\n", "is not TOML"),
        ("\x00", "is not TOML"),
    ],
)
def test_wrong_file_is_one_line_that_names_the_setting(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(FetcherSettings, written(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_IMPORTER__LEASE_S", "soon")
    with pytest.raises(ConfigurationError, match=r"importer\.lease_s: .*TINTYPE_IMPORTER__LEASE_S"):
        load(FetcherSettings, None)


@pytest.mark.parametrize("variable", ["TINTYPE_IMPORTER__NONSENSE", "TINTYPE_IMPROTER__LISTEN"])
def test_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigurationError, match="no such"):
        load(FetcherSettings, None)


def test_values_do_not_appear_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_IMPORTER__CONCURRENCY", "s3cret")
    with pytest.raises(ConfigurationError) as caught:
        load(FetcherSettings, None)
    assert "s3cret" not in str(caught.value)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read"):
        load(FetcherSettings, tmp_path / "nowhere.toml")


def test_file_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="larger than"):
        load(FetcherSettings, written(tmp_path, "#" * (1024 * 1024 + 1)))


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "images.example:1", "192.0.2.1:1"])
def test_only_loopback_is_listened_on_without_the_word_unsafe(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("TINTYPE_IMPORTER__LISTEN", address)
    with pytest.raises(
        ConfigurationError, match=r"authentication \(auth\.tokens_file\) are missing; .*unsafe_plaintext"
    ):
        load(FetcherSettings, None)
    monkeypatch.setenv("TINTYPE_IMPORTER__UNSAFE_PLAINTEXT", "true")
    assert load(FetcherSettings, None).importer.listen == address


def test_beyond_loopback_is_listened_on_with_tls_and_tokens_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_IMPORTER__LISTEN", "0.0.0.0:1")
    monkeypatch.setenv("TINTYPE_TLS__CERTIFICATE", "/tls.crt")
    monkeypatch.setenv("TINTYPE_TLS__KEY", "/tls.key")
    with pytest.raises(ConfigurationError, match=r"importer\.listen: .*auth\.tokens_file\) is missing"):
        load(FetcherSettings, None)
    monkeypatch.setenv("TINTYPE_AUTH__TOKENS_FILE", "/tokens.toml")
    assert load(FetcherSettings, None).importer.listen == "0.0.0.0:1"
    monkeypatch.delenv("TINTYPE_TLS__CERTIFICATE")
    monkeypatch.delenv("TINTYPE_TLS__KEY")
    with pytest.raises(ConfigurationError, match=r"importer\.listen: .*tls\.certificate and tls\.key\) is missing"):
        load(FetcherSettings, None)


@pytest.mark.parametrize("alone", ["CERTIFICATE", "KEY", "CLIENT_CA"])
def test_certificate_and_key_belong_together(monkeypatch: pytest.MonkeyPatch, alone: str) -> None:
    monkeypatch.setenv(f"TINTYPE_TLS__{alone}", "/file")
    with pytest.raises(ConfigurationError, match=r"^tls: .*certificate and key"):
        load(FetcherSettings, None)


class TestSecretFiles:
    """A directory with one file for each secret."""

    @pytest.fixture
    def secrets(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("TINTYPE_SECRETS_DIR", str(tmp_path / "secrets"))
        (tmp_path / "secrets").mkdir()
        return tmp_path / "secrets"

    def test_is_over_the_file_and_below_the_environment(
        self, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (secrets / "TINTYPE_NATS__URL").write_text("nats://secret:1\n")
        file = written(tmp_path, '[nats]\nurl = "nats://file:1"\n')
        assert load(FetcherSettings, file).nats.url == "nats://secret:1"
        monkeypatch.setenv("TINTYPE_NATS__URL", "nats://environment:1")
        assert load(FetcherSettings, file).nats.url == "nats://environment:1"

    def test_sets_what_lies_deep(self, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TINTYPE_STORES__MAIN__PATH")
        (secrets / "TINTYPE_STORES__MAIN__PATH").write_text("/elsewhere")
        (secrets / "..data").write_text("an orchestrator's own")
        assert load(FetcherSettings, None).stores["main"].path == Path("/elsewhere")  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("TINTYPE_IMPROTER__LISTEN", b"1", "no such section among the secrets: improter"),
            (
                "TINTYPE_IMPORTER__NONSENSE",
                b"1",
                r"importer\.nonsense: no such setting \(from TINTYPE_IMPORTER__N",
            ),
            ("TINTYPE_NATS__URL", b"x" * (64 * 1024 + 1), "TINTYPE_NATS__URL is larger than"),
            ("TINTYPE_NATS__URL", b"\xff", "TINTYPE_NATS__URL is not text"),
        ],
    )
    def test_wrong_one_is_named(self, secrets: Path, name: str, content: bytes, message: str) -> None:
        (secrets / name).write_bytes(content)
        with pytest.raises(ConfigurationError, match=message):
            load(FetcherSettings, None)

    def test_directory_that_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TINTYPE_SECRETS_DIR", "/nowhere")
        with pytest.raises(ConfigurationError, match="TINTYPE_SECRETS_DIR: /nowhere cannot be read"):
            load(FetcherSettings, None)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:50051", "localhost:1"])
def test_loopback_is_listened_on(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("TINTYPE_IMPORTER__LISTEN", address)
    assert load(FetcherSettings, None).importer.listen == address


def test_only_store_is_the_default_store() -> None:
    assert load(FetcherSettings, None).default_store == "main"


def test_default_store_is_the_one_that_says_so(tmp_path: Path) -> None:
    file = written(tmp_path, '[stores.other]\npath = "/other"\ndefault = true\n')
    assert load(FetcherSettings, file).default_store == "other"


def test_unknown_kind_of_store_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, '[stores.other]\ntype = "tape"\ndefault = true\n')
    with pytest.raises(ConfigurationError, match=r"stores\.other: type must be file, s3, swift, rbd or cinder"):
        load(FetcherSettings, file)


def test_setting_of_another_kind_of_store_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, '[stores.other]\ntype = "file"\npath = "/x"\nbucket = "x"\ndefault = true\n')
    with pytest.raises(ConfigurationError, match=r"^stores\.other\.bucket: no such setting$"):
        load(FetcherSettings, file)


def test_service_that_needs_a_store_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINTYPE_STORES__MAIN__PATH")
    with pytest.raises(ConfigurationError, match="no store is set"):
        load(FetcherSettings, None)


@pytest.mark.parametrize("settings_class", [CatalogSettings, ImporterSettings, ConverterSettings, SignerSettings])
def test_help_lists_every_setting_with_both_names_and_what_it_does(settings_class: type[Settings]) -> None:
    text = describe(settings_class)
    for path, setting in settings_of(settings_class):
        assert setting.description, f"{path} has no description"
        assert setting.description in text
        assert f"TINTYPE_{path.replace('.', '__').upper()}" in text


@pytest.mark.parametrize("output_format", ["raw", "qcow2", "vmdk"])
def test_converter_prefers_what_it_is_told(monkeypatch: pytest.MonkeyPatch, output_format: str) -> None:
    monkeypatch.setenv("TINTYPE_CONVERTER__OUTPUT_FORMAT", output_format)
    assert load(ConverterSettings, None).converter.preferred_format == output_format


def test_converter_can_be_told_not_to_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_CONVERTER__OUTPUT_FORMAT", "none")
    assert load(ConverterSettings, None).converter.preferred_format is None


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:4317", "https://collector.example:4317", "http://[::1]:4318/v1/traces"]
)
def test_a_collector_is_a_url(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_TELEMETRY__TRACES_ENDPOINT", endpoint)
    assert load(FetcherSettings, None).telemetry.traces_endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4317",
        "http://collector",
        "grpc://collector:4317",
        "http://user:secret@collector:4317",
        "http://collector:99999",
        "http://[collector:4317",
        "http://collector:4317/?token=secret",
    ],
)
def test_what_is_no_collector_is_refused_and_not_repeated(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_TELEMETRY__TRACES_ENDPOINT", endpoint)
    with pytest.raises(ConfigurationError, match=r"^telemetry\.traces_endpoint: it is not http://HOST:PORT") as caught:
        load(FetcherSettings, None)
    assert "collector" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("setting", ["health_listen", "metrics_listen"])
@pytest.mark.parametrize("address", ["9293", "host:", ":1", "host:99999"])
def test_an_address_of_a_further_port_that_is_none_names_its_setting(
    setting: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TINTYPE_IMPORTER__{setting.upper()}", address)
    with pytest.raises(ConfigurationError, match=rf"^importer\.{setting}: .* is not HOST:PORT"):
        load(FetcherSettings, None)


def test_ports_for_probes_are_listened_on_beyond_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_IMPORTER__HEALTH_LISTEN", "0.0.0.0:9293")
    monkeypatch.setenv("TINTYPE_IMPORTER__METRICS_LISTEN", "[::]:9294")
    importer = load(FetcherSettings, None).importer
    assert (importer.health_listen, importer.metrics_listen) == ("0.0.0.0:9293", "[::]:9294")
