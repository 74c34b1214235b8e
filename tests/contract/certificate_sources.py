"""What the contract suite of certificate sources runs on: an empty source, and the other side of it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from services.signer.barbican_settings import BarbicanSection
from services.signer.keys.barbican import BarbicanCertificates
from services.signer.keys.directory import CertificateDirectory
from tests.backends.keystone_barbican import Site, password_of
from tintype.adapters.memory.certificates import MemoryCertificates
from tintype.ports.certificates import CertificateSource

UNKNOWN_ID = "11111111-2222-4333-8444-555555555555"


class CertificateSourceHarness(Protocol):
    """One source."""

    @property
    def source(self) -> CertificateSource:
        """It, as the signer sees it."""
        ...

    def put(self, pem: bytes) -> str:
        """Put a certificate in, as whoever runs the source; its id."""
        ...

    def remove(self, certificate_id: str) -> None:
        """Take it out."""
        ...

    def take_away(self) -> None:
        """Make the source answer nobody."""
        ...

    def bring_back(self) -> None:
        """Put it back, with all that it had."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class MemoryHarness:
    """Certificates in memory."""

    def __init__(self) -> None:
        self.source = MemoryCertificates()
        self._count = 0

    def put(self, pem: bytes) -> str:
        self._count += 1
        self.source.put(f"publisher-{self._count}", pem)
        return f"publisher-{self._count}"

    def remove(self, certificate_id: str) -> None:
        self.source.remove(certificate_id)

    def take_away(self) -> None:
        self.source.is_away = True

    def bring_back(self) -> None:
        self.source.is_away = False

    async def close(self) -> None:
        """Nothing is held."""


class DirectoryHarness:
    """Files in a directory."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "certificates"
        self._directory.mkdir()
        self.source = CertificateDirectory(self._directory)
        self._count = 0

    def put(self, pem: bytes) -> str:
        self._count += 1
        (self._directory / f"publisher-{self._count}.pem").write_bytes(pem)
        return f"publisher-{self._count}"

    def remove(self, certificate_id: str) -> None:
        (self._directory / f"{certificate_id}.pem").unlink()

    def take_away(self) -> None:
        self._directory.rename(self._directory.with_name("gone"))

    def bring_back(self) -> None:
        self._directory.with_name("gone").rename(self._directory)

    async def close(self) -> None:
        """Nothing is held."""


class BarbicanHarness:
    """Secrets in a Barbican, which another user of the signer's project puts in."""

    def __init__(self, site: Site, root: Path) -> None:
        self._site = site
        self._publisher = site.barbican("publisher")
        self.source = BarbicanCertificates(barbican_section(site, root), monotonic=lambda: 0.0)

    def put(self, pem: bytes) -> str:
        secret = self._publisher.secrets.create(name="publisher", payload=pem, secret_type="certificate")
        return str(secret.store()).rpartition("/")[2]

    def remove(self, certificate_id: str) -> None:
        self._publisher.secrets.delete(certificate_id)

    def take_away(self) -> None:
        self._site.kill("barbican")

    def bring_back(self) -> None:
        self._site.start()

    async def close(self) -> None:
        await self.source.aclose()


def barbican_section(site: Site, root: Path, **settings: object) -> BarbicanSection:
    """The settings with which the signer asks this Barbican; nothing is cached."""
    password_file = root / "barbican-password"
    password_file.write_text(f"{password_of('signer')}\n")
    password_file.chmod(0o600)
    usual = {
        "auth_url": site.auth_url,
        "username": "signer",
        "project": "images",
        "password_file": password_file,
        "cache_s": 0,
    }
    return BarbicanSection.model_validate(usual | settings)
