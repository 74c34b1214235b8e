"""What the services of an embedded stack are told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.settings import CatalogSettings
from tintype.domain.errors import ConfigurationError
from tintype.embedded.directory import StackDirectory
from tintype.embedded.stack_settings import SERVICES, StackSettings, stack_settings, to_toml
from tintype.runtime.settings import load

PORTS = {"nats": 1, **{name: number for number, name in enumerate(SERVICES, start=10)}}


def settings(tmp_path: Path, text: str = "", environment: dict[str, str] | None = None) -> StackSettings:
    """The settings of a stack whose operator wrote ``text``."""
    config = tmp_path / "own.toml"
    config.write_text(text)
    return stack_settings(StackDirectory(tmp_path / "data"), PORTS, config, environment or {})


def test_without_a_word_all_is_below_the_directory_and_on_loopback(tmp_path: Path) -> None:
    found = settings(tmp_path)
    content = tomllib.loads(found.file)
    assert content["stores"]["local"] == {"type": "file", "path": str(tmp_path / "data" / "store"), "default": True}
    assert content["catalog"]["data_dir"] == str(tmp_path / "data")
    assert content["nats"]["url"] == found.endpoints["nats"] == "nats://127.0.0.1:1"
    assert [found.endpoints[name] for name in SERVICES] == [f"127.0.0.1:{PORTS[name]}" for name in SERVICES]


def test_operators_settings_are_kept(tmp_path: Path) -> None:
    text = '[importer]\nallowed_hosts = ["127.0.0.1"]\n[converter]\noutput_format = "qcow2"\ndrain_s = 1.5\n'
    content = tomllib.loads(settings(tmp_path, text).file)
    assert content["importer"]["allowed_hosts"] == ["127.0.0.1"]
    assert content["converter"]["output_format"] == "qcow2"
    assert content["converter"]["drain_s"] == 1.5


@pytest.mark.parametrize("setting", ["data_dir", "database_url"])
def test_operators_say_where_the_catalogs_tables_are(tmp_path: Path, setting: str) -> None:
    value = {"data_dir": "/srv", "database_url": "sqlite:////srv/catalog.db"}[setting]
    written = tmp_path / "settings.toml"
    written.write_text(settings(tmp_path, f'[catalog]\n{setting} = "{value}"\n').file)
    assert load(CatalogSettings, written).catalog.database == "sqlite:////srv/catalog.db"


def test_operators_stores_replace_the_default_one(tmp_path: Path) -> None:
    content = tomllib.loads(settings(tmp_path, '[stores.big]\npath = "/srv"\n').file)
    assert content["stores"] == {"big": {"path": "/srv"}}
    from_environment = settings(tmp_path, environment={"TINTYPE_STORES__BIG__PATH": "/srv"})
    assert "stores" not in tomllib.loads(from_environment.file)


def test_the_catalog_of_a_stack_knows_the_names_of_its_stores(tmp_path: Path) -> None:
    written = tmp_path / "settings.toml"
    for text, names in (
        ("", {"local"}),
        ('[stores.a]\npath = "/a"\ndefault = true\n[stores.b]\npath = "/b"\n', {"a", "b"}),
    ):
        written.write_text(settings(tmp_path, text).file)
        assert load(CatalogSettings, written).store_names == frozenset(names)


def test_operators_environment_is_handed_on(tmp_path: Path) -> None:
    found = settings(tmp_path, environment={"TINTYPE_IMPORTER__ALLOWED_HOSTS": "127.0.0.1", "PATH": "/bin"})
    assert found.environment["TINTYPE_IMPORTER__ALLOWED_HOSTS"] == "127.0.0.1"
    assert found.environment["PATH"] == "/bin"


def test_log_is_always_the_stacks_own(tmp_path: Path) -> None:
    found = settings(tmp_path, '[nats]\nurl = "nats://else:1"\n', {"TINTYPE_NATS__URL": "nats://else:2"})
    assert found.environment["TINTYPE_NATS__URL"] == "nats://127.0.0.1:1"
    assert tomllib.loads(found.file)["nats"]["url"] == "nats://127.0.0.1:1"


def test_client_is_told_where_the_services_really_listen(tmp_path: Path) -> None:
    found = settings(tmp_path, '[catalog]\nlisten = "127.0.0.1:7777"\n', {"TINTYPE_SIGNER__LISTEN": "127.0.0.2:0"})
    client = tomllib.loads(found.client_file())["client"]
    assert client["catalog"] == "127.0.0.1:7777"
    assert client["signer"] == f"127.0.0.2:{PORTS['signer']}"
    assert found.environment["TINTYPE_CATALOG__LISTEN"] == "127.0.0.1:7777"


@pytest.mark.parametrize("text", ["[catalog", "catalog = 3\n"])
def test_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        settings(tmp_path, text)


def test_section_that_nobody_reads_is_named_with_the_operators_own_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no such section in .*own\.toml: importre"):
        settings(tmp_path, "[importre]\n")


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        stack_settings(StackDirectory(tmp_path), PORTS, tmp_path / "nowhere", {})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = TEXT | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_written_is_what_is_read(table: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(table)) == table
