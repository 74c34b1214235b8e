"""The catalog and a PostgreSQL that takes TLS alone: both show certificates, and an expired one is told as such."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.catalog import starting
from services.catalog.settings import CatalogSection
from services.catalog.starting import require_database
from tests.backends.postgresql import encrypted_postgresql_server
from tintype.domain.errors import CatalogDatabaseError
from tintype.embedded.authority import Authority, open_authority
from tintype.runtime.settings import TlsSettings

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return open_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def good(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    certificates = tmp_path_factory.mktemp("good")
    authority.issue(certificates, ["127.0.0.1"])
    with encrypted_postgresql_server(certificates) as url:
        yield url


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that refuses is not asked again."""
    monkeypatch.setattr(starting, "TIMEOUT_S", 0.0)


def own(authority: Authority, directory: Path) -> TlsSettings:
    """The catalog's certificate."""
    authority.issue(directory, ["catalog"])
    return TlsSettings(certificate=directory / "tls.crt", key=directory / "tls.key", ca=directory / "ca.crt")


async def test_the_catalogs_certificate_lets_it_in(good: str, authority: Authority, tmp_path: Path) -> None:
    await require_database(CatalogSection(database_url=good), own(authority, tmp_path))


async def test_without_a_certificate_it_is_not_let_in(good: str, authority: Authority) -> None:
    with pytest.raises(CatalogDatabaseError, match="requires a valid client certificate"):
        await require_database(CatalogSection(database_url=good), TlsSettings(ca=authority.certificate_file))


async def test_a_server_of_another_ca_is_not_trusted(good: str, tmp_path: Path) -> None:
    foreign = own(open_authority(tmp_path / "other-ca"), tmp_path / "own")
    with pytest.raises(CatalogDatabaseError, match="certificate verify failed"):
        await require_database(CatalogSection(database_url=good), foreign)


async def test_an_expired_certificate_of_the_server_is_told_as_such(authority: Authority, tmp_path: Path) -> None:
    authority.issue(tmp_path / "old", ["127.0.0.1"], lifetime=timedelta(days=-1))
    with encrypted_postgresql_server(tmp_path / "old") as url, pytest.raises(CatalogDatabaseError) as caught:
        await require_database(CatalogSection(database_url=url), own(authority, tmp_path / "own"))
    assert caught.value.message.startswith("catalog.database_url: ")
    assert '"127.0.0.1"' in caught.value.message and "certificate has expired" in caught.value.message
