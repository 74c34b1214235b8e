"""Where the client looks for its configuration, and what it refuses there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.client import ClientConfig, ConfigurationError, load_config
from tintype.client.channels import token_metadata


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINTYPE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path


def write(path: Path, catalog: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[client]\ncatalog = "{catalog}"\n')
    return path


def test_the_nearest_place_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for place in ("home/tintype/client.toml", "tintype-data/client.toml", "client.toml"):
        write(tmp_path / place, place)
        found.append(load_config().catalog)
    monkeypatch.setenv("TINTYPE_CONFIG", str(write(tmp_path / "named.toml", "environment")))
    found.append(load_config().catalog)
    found.append(load_config(write(tmp_path / "given.toml", "given")).catalog)

    assert found == ["home/tintype/client.toml", "tintype-data/client.toml", "client.toml", "environment", "given"]


def test_without_a_file_the_error_names_the_places() -> None:
    with pytest.raises(ConfigurationError, match=r"tintype-data/client\.toml"):
        load_config()


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[client", "not TOML"),
        ("[other]", "no section"),
        ("client = 1", "no section"),
        ("[client]\nimporter = 'x'", "catalog is missing"),
        ("[client]\ncatalog = 1", "must be of type str"),
        ("[client]\nendpoint = 'x'\ncertificate = 'y'", "belong together"),
        ("[client]\nendpoint = 'x'\ntoken = 'y'\ntoken_file = 'z'", "both set"),
        ("[client]\ncatalog = 'x'\ntimeout_s = true", "must be of type float"),
        ("[client]\ncatalog = 'x'\nresume_attempts = 'many'", "must be of type int"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "client.toml").write_text(text)

    with pytest.raises(ConfigurationError, match=complaint):
        load_config()


def test_unknown_keys_are_for_newer_clients(tmp_path: Path) -> None:
    (tmp_path / "client.toml").write_text("[client]\ncatalog = 'x'\nfuture = 1\ntimeout_s = 5\n")

    config = load_config(project="mine")

    assert (config.timeout_s, config.project) == (5, "mine")


def test_one_endpoint_stands_for_every_service_that_is_not_named(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text("[client]\nendpoint = 'images:9292'\nsigner = 'signer:1'\n")
    config = load_config(file)
    assert {name: config.address(name) for name in ("catalog", "importer", "converter", "signer")} == {
        "catalog": "images:9292",
        "importer": "images:9292",
        "converter": "images:9292",
        "signer": "signer:1",
    }


def test_files_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text("[client]\nendpoint = 'x'\nca = 'ca.crt'\ntoken_file = '/etc/token'\n")
    config = load_config(file)
    assert (config.ca, config.token_file) == (str(tmp_path / "ca.crt"), "/etc/token")
    assert config.is_encrypted


def test_token_of_the_environment_wins_and_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "client.toml"
    file.write_text("[client]\nendpoint = 'x'\ntoken_file = 'token'\n")
    monkeypatch.setenv("TINTYPE_TOKEN", "s3cret")
    config = load_config(file)
    assert (config.token, config.token_file) == ("s3cret", "")
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "cannot be read"), ("", "is empty"), ("two words", "one word"), ("ü", "one word")]
)
def test_a_token_that_is_none_is_refused(tmp_path: Path, content: str | None, complaint: str) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        token_metadata(ClientConfig(endpoint="127.0.0.1:1", token_file=str(token)))
    assert "two words" not in str(refused.value)


def test_a_file_that_lies_about_is_not_given_the_users_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "client.toml"
    file.write_text("[client]\nendpoint = 'stranger.example:9292'\ntls = true\n")
    monkeypatch.setenv("TINTYPE_TOKEN", "s3cret")
    with pytest.raises(ConfigurationError, match="TINTYPE_TOKEN"):
        load_config()
    assert load_config(file).token == "s3cret"
    monkeypatch.setenv("TINTYPE_CONFIG", "client.toml")
    assert load_config().token == "s3cret"


@pytest.mark.parametrize("outside", ["../secret", "~/secret", "/etc/secret", "link"])
@pytest.mark.parametrize("setting", ["token_file", "nats_credentials", "key"])
def test_a_file_that_lies_about_uses_no_secret_from_elsewhere(tmp_path: Path, setting: str, outside: str) -> None:
    (tmp_path / "link").symlink_to("/etc/secret")
    other = "certificate = 'x'\n" if setting == "key" else ""
    (tmp_path / "client.toml").write_text(
        f"[client]\nendpoint = 'stranger.example:9292'\ntls = true\n{other}{setting} = '{outside}'\n"
    )
    with pytest.raises(ConfigurationError, match=f"client.{setting} from elsewhere"):
        load_config()


def test_a_file_that_lies_about_has_secrets_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "client.toml").write_text("[client]\nendpoint = 'far.example:9292'\ntls = true\ntoken_file = 'token'\n")
    assert load_config().token_file == "token"
    (tmp_path / "client.toml").write_text("[client]\nendpoint = '127.0.0.1:9292'\n")
    monkeypatch.setenv("TINTYPE_TOKEN", "s3cret")
    assert load_config().token == "s3cret"


@pytest.mark.parametrize("nats", ["tls://stranger.example:4222", "tls://127.0.0.1:4222,tls://stranger.example", "[::"])
def test_a_file_that_lies_about_shows_a_nats_elsewhere_no_secret_from_elsewhere(tmp_path: Path, nats: str) -> None:
    file = tmp_path / "client.toml"
    file.write_text(f"[client]\nendpoint = '127.0.0.1:9292'\nnats = '{nats}'\nnats_credentials = '/etc/secret'\n")
    with pytest.raises(ConfigurationError, match=r"client\.nats_credentials from elsewhere"):
        load_config()


def test_a_file_that_lies_about_may_use_the_token_here_and_follow_a_log_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINTYPE_TOKEN", "s3cret")
    for nats in ("tls://stranger.example:4222", "tls://[::1]:4222,tls://localhost"):
        (tmp_path / "client.toml").write_text(f"[client]\nendpoint = 'localhost:9292'\nnats = '{nats}'\n")
        assert load_config().token == "s3cret"
