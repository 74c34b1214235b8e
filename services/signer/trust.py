"""Whom the site trusts, project by project: the settings' policies, and the files that they name, as they are now."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cryptography import x509

from services.signer.settings import SignerSection
from tintype.domain.errors import KeyManagerUnavailableError, TrustStoreError
from tintype.domain.values import ProjectId
from tintype.ports.service_keys import ServiceKey, ServiceKeys
from tintype.trust.pem import certificates_of
from tintype.trust.policy import SignaturePolicy
from tintype.trust.trust_store import INTERMEDIATES, SERVICE_KEYS, TrustStore, load_trust_store

READ_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Rules:
    """A project's policy, and whom it trusts."""

    policy: SignaturePolicy
    store: TrustStore

    @cached_property
    def fingerprint(self) -> str:
        """That of the policy, whom it trusts included."""
        return self.policy.fingerprint(self.store)


class Trust:
    """The rules of every project; changed files are read again, so that roots rotate without a restart."""

    def __init__(self, settings: SignerSection, keys: ServiceKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._read: dict[Path, tuple[_Stamp, TrustStore]] = {}

    async def prepare(self) -> None:
        """Read all directories once, while the service starts.

        Raises:
            TrustStoreError: one cannot be used; the message names the setting and the file.
        """
        directories = {"signer": self._settings.trusted_roots_dir}
        for name, section in self._settings.projects.items():
            directories[f"signer.projects.{name}"] = section.trusted_roots_dir
        for table, directory in directories.items():
            try:
                if directory:
                    await asyncio.to_thread(self._current, directory)
            except TrustStoreError as exc:
                raise TrustStoreError(f"{table}.trusted_roots_dir: {exc.message}") from exc

    async def rules(self, project: ProjectId) -> Rules:
        """What holds for a project's images now.

        Raises:
            KeyManagerUnavailableError: the files cannot be read as they are now, or the service's keys do not answer.
        """
        directory = self._settings.roots_dir(project)
        store = await self._store(directory) if directory else TrustStore()
        own = await self._service_certificates()
        return Rules(
            self._settings.policy(project),
            replace(store, service_certificates={**store.service_certificates, **own}),
        )

    async def service_keys(self) -> Sequence[ServiceKey]:
        """The service's own keys, newest first.

        Raises:
            KeyManagerUnavailableError: they do not answer.
        """
        return await self._keys.keys()

    async def _store(self, directory: Path) -> TrustStore:
        try:
            # A network file system may hang.
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await asyncio.to_thread(self._current, directory)
        except TrustStoreError as exc:
            # Somebody is at work there: neither the old rules nor fewer are right, so images wait.
            raise KeyManagerUnavailableError(f"the trusted roots cannot be read: {exc.message}") from exc
        except TimeoutError as exc:
            raise KeyManagerUnavailableError(f"the trusted roots in {directory} cannot be read in time") from exc

    def _current(self, directory: Path) -> TrustStore:
        stamp = _stamp(directory)
        known = self._read.get(directory)
        if known and known[0] == stamp:
            return known[1]
        store = load_trust_store(directory)
        # A file that changes while it is read has another stamp the next time.
        self._read[directory] = (stamp, store)
        return store

    async def _service_certificates(self) -> Mapping[str, x509.Certificate]:
        keys = await self.service_keys()
        return {key.id: certificates_of(key.certificate, f"key {key.id}")[0] for key in keys}


_Stamp = tuple[tuple[str, int, int, int, int], ...]


def _stamp(directory: Path) -> _Stamp:
    """What tells that a file was added, removed or replaced."""
    try:
        return tuple(_file_stamps(directory, ("", INTERMEDIATES, SERVICE_KEYS)))
    except OSError as exc:
        raise TrustStoreError(f"{directory} cannot be read: {exc.strerror}") from exc


def _file_stamps(directory: Path, folders: Iterable[str]) -> Iterable[tuple[str, int, int, int, int]]:
    for folder in folders:
        path = directory / folder
        if folder and not path.is_dir():
            continue
        for name in sorted(os.listdir(path)):
            found = os.stat(path / name)
            yield f"{folder}/{name}", found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
