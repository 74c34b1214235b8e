"""The catalog's settings, and what is wrong with a database's URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.catalog.app import make_data_dir
from services.catalog.database import Database
from services.catalog.settings import CatalogSection, CatalogSettings
from tintype.domain.errors import ConfigurationError
from tintype.runtime.settings import load


def test_the_default_database_is_in_the_data_directory(tmp_path: Path) -> None:
    settings = CatalogSection(data_dir=tmp_path / "data")
    assert settings.database == f"sqlite:///{tmp_path}/data/catalog.db"
    make_data_dir(settings)
    assert settings.data_dir.is_dir()


def test_a_data_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="data_dir"):
        make_data_dir(CatalogSection(data_dir=tmp_path / "file" / "data"))


def test_a_database_of_another_kind_is_refused_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_CATALOG__DATABASE_URL", "mysql://root:secret@host/db")
    with pytest.raises(ConfigurationError, match=r"catalog\.database_url: must begin with") as caught:
        load(CatalogSettings, None)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://u:secret@host/db", "sqlite://", "sqlite:///:memory:"])
def test_an_engine_is_made_for_known_databases_only(url: str) -> None:
    with pytest.raises(ConfigurationError, match="database_url") as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_of_stores_the_catalog_knows_the_names_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "tintype.toml"
    file.write_text(
        '[stores.main]\ntype = "file"\npath = "/srv"\ndefault = true\n'
        '[stores.second]\ntype = "s3"\nbucket = "b"\nsecret_key = "hush"\nnobody_knows = [1]\n'
    )
    settings = load(CatalogSettings, file)
    assert settings.store_names == frozenset({"main", "second"})
    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json()


def test_a_catalog_that_is_told_no_stores_knows_none() -> None:
    assert load(CatalogSettings, None).store_names is None


def test_stores_of_the_environment_are_known_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_STORES__OTHER__SECRET_KEY", "hush")
    settings = load(CatalogSettings, None)
    assert settings.store_names == frozenset({"other"})
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("delay", ["-1", "inf", "nan", str(90 * 24 * 3600 + 1)])
def test_a_delay_of_deletions_is_bounded(monkeypatch: pytest.MonkeyPatch, delay: str) -> None:
    monkeypatch.setenv("TINTYPE_CATALOG__DELETE_DELAY_S", delay)
    with pytest.raises(ConfigurationError, match=r"catalog\.delete_delay_s"):
        load(CatalogSettings, None)
