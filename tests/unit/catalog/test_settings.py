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
