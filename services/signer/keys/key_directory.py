"""The service's keys as files: ``<id>.key`` (PKCS #8 in PEM, for its owner alone) and ``<id>.pem``, its certificate.

The newest certificate's key signs. A private key that is no longer wanted may be removed: its certificate stays, and
verifies what was signed with it.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from services.signer.keys.directory import CERTIFICATE_ID
from tintype.domain.errors import (
    ConfigurationError,
    KeyManagerUnavailableError,
    KeyPermissionsError,
    ServiceKeyNotFoundError,
)
from tintype.domain.values import Digest
from tintype.ports.clock import Clock
from tintype.ports.service_keys import ServiceKey
from tintype.trust.certificates import service_certificate
from tintype.trust.signatures import HASH_BY_ALGORITHM

P = ParamSpec("P")
T = TypeVar("T")

KEY_TYPE = "ECC_SECP384R1"
MAX_KEY_BYTES = 16 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyDirectory:
    """Keys in one directory, which any number of replicas share."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    async def prepare(self, first_key_id: str) -> None:
        """Make the directory, and the first key where there is none.

        Raises:
            ConfigurationError: it cannot be made or used.
            KeyPermissionsError: others may write to it, or read a key in it.
        """
        try:
            await asyncio.to_thread(self._prepare, first_key_id)
        except OSError as exc:
            raise ConfigurationError(f"signer.key_dir: {self._directory} cannot be used: {exc.strerror}") from exc

    async def keys(self) -> Sequence[ServiceKey]:
        """All keys, newest first."""
        return await self._do(self._keys)

    async def sign(self, key_id: str, digest: Digest) -> bytes:
        """ECDSA over the digest, in DER."""
        return await self._do(self._sign, key_id, digest)

    async def rotate(self, key_id: str) -> ServiceKey:
        """A new key, which signs from now on."""
        await self._do(self._make, key_id)
        return next(key for key in await self.keys() if key.id == key_id)

    @staticmethod
    async def _do(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(work, *arguments, **named)
        except OSError as exc:
            raise KeyManagerUnavailableError(f"the directory of keys cannot be used: {exc.strerror}") from exc

    def _prepare(self, first_key_id: str) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(self._directory.stat().st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
            raise KeyPermissionsError(f"{self._directory} may be written to by others than its owner")
        for path in self._directory.glob("*.key"):
            _require_private(path)
        if not any(self._directory.glob("*.pem")):
            self._make(first_key_id)

    def _keys(self) -> Sequence[ServiceKey]:
        found = [self._key_of(path) for path in self._directory.glob("*.pem")]
        found.sort(key=lambda key: (key.created_at, key.id), reverse=True)
        active = next((key.id for key in found if (self._directory / f"{key.id}.key").exists()), None)
        return [ServiceKey(k.id, k.key_type, k.certificate, k.created_at, k.id == active) for k in found]

    def _key_of(self, path: Path) -> ServiceKey:
        pem = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        return ServiceKey(path.stem, KEY_TYPE, pem, certificate.not_valid_before_utc, is_active=False)

    def _sign(self, key_id: str, digest: Digest) -> bytes:
        path = self._directory / f"{key_id}.key"
        if not CERTIFICATE_ID.fullmatch(key_id) or not path.is_file():
            raise ServiceKeyNotFoundError(f"the service has no key {key_id[:80]!r} that signs")
        _require_private(path)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ServiceKeyNotFoundError(f"key {key_id!r} is not an elliptic-curve key")
        algorithm = HASH_BY_ALGORITHM[digest.algorithm]
        return key.sign(bytes.fromhex(digest.hex), ec.ECDSA(Prehashed(algorithm)))

    def _make(self, key_id: str) -> None:
        if (self._directory / f"{key_id}.pem").exists():
            return
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # The certificate last: what has none is no key yet.
        _write_new(self._directory / f"{key_id}.key", private, 0o600)
        _write_new(self._directory / f"{key_id}.pem", service_certificate(key, key_id, self._clock.now()), 0o644)


def _require_private(path: Path) -> None:
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & _OTHERS or found.st_uid not in (os.geteuid(), 0):
        raise KeyPermissionsError(f"{path} may be read or replaced by others than the service")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
