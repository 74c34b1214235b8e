"""The service's keys in a directory: ``<id>.key``, a private key in PEM for its owner alone, and ``<id>.pem``.

The newest certificate's key signs. A private key that is no longer wanted may be removed: its certificate stays, and
verifies what was signed with it. Operators may put keys of their own there, RSA or elliptic-curve.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.signer.keys import key_files
from services.signer.keys.names import checked_key_id
from tintype.domain.errors import (
    ConfigurationError,
    InternalError,
    KeyManagerUnavailableError,
    KeyUnreadableError,
    ServiceKeyNotFoundError,
)
from tintype.domain.values import Digest
from tintype.ports.clock import Clock
from tintype.ports.service_keys import ServiceKey
from tintype.trust.certificates import service_certificate, start_of_new
from tintype.trust.private_files import read_private, require_own_directory
from tintype.trust.signing import load_private_key, sign_digest

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
"""A network file system may hang."""

HALF_MADE_FOR = timedelta(minutes=10)
"""A key that has no certificate for so long never will."""


class KeyDirectory:
    """Keys in one directory, which any number of replicas share."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._turn = threading.Lock()
        self._read: tuple[key_files.Fingerprint, key_files.KeyFiles] | None = None

    async def prepare(self, first_key_id: str) -> None:
        """Make the directory, and the first key where there is none; remove what is left of half-made keys.

        Raises:
            ConfigurationError: it cannot be made or used.
            KeyPermissionsError: others may write to it, or read a key in it.
            KeyUnreadableError: a file in it is not what its name says.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.to_thread(self._prepare, first_key_id)
        except OSError as exc:  # a TimeoutError is one too, without words
            why = exc.strerror or "it does not answer"
            raise ConfigurationError(f"signer.key_dir: {self._directory} cannot be used: {why}") from exc

    async def keys(self) -> Sequence[ServiceKey]:
        """All keys, newest first."""
        return (await self._do(self._files)).keys

    async def sign(self, key_id: str, digest: Digest) -> bytes:
        """Sign with a key that is there."""
        return await self._do(self._sign, key_id, digest)

    async def rotate(self, key_id: str) -> ServiceKey:
        """Make a P-384 key, which signs from now on."""
        checked_key_id(key_id)
        files = await self._do(self._made, key_id)
        return next(key for key in files.keys if key.id == key_id)

    async def _do(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.to_thread(work, *arguments, **named)
        except OSError as exc:
            raise KeyManagerUnavailableError("the directory of the service's keys cannot be used") from exc
        except ConfigurationError as exc:
            # It was right when the service began: what was spoiled since is repaired by the operator, and no image's
            # fault.
            raise KeyManagerUnavailableError(f"{exc.message} [{exc.reason}]") from exc

    def _prepare(self, first_key_id: str) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_own_directory(self._directory.stat(), self._directory)
        for name in key_files.sweep(self._directory, (self._clock.now() - HALF_MADE_FOR).timestamp()):
            log.warning("half-made key was removed", file=name)
        files = self._files()
        if not files.keys:
            files = self._made(first_key_id)
        if not files.private:
            raise KeyUnreadableError(f"{self._directory} has certificates, and no private key that signs")

    def _files(self) -> key_files.KeyFiles:
        """What is there now; read again only if it looks different."""
        with self._turn:
            seen = key_files.fingerprint(self._directory)
            if self._read is None or self._read[0] != seen:
                # Seen before it is read: what changes meanwhile is read again the next time.
                self._read = (seen, key_files.load(self._directory))
            return self._read[1]

    def _sign(self, key_id: str, digest: Digest) -> bytes:
        key = self._files().private.get(key_id)
        if key is None:
            raise ServiceKeyNotFoundError(f"the service has no key {key_id[:80]!r} that signs")
        return sign_digest(key, digest)

    def _made(self, key_id: str) -> key_files.KeyFiles:
        before = self._files()
        if any(key.id == key_id for key in before.keys):
            return before
        path = self._directory / f"{key_id}{key_files.KEY_SUFFIX}"
        key_files.place(path, _new_private_key(), 0o600)
        # Read back: another replica may have been faster, and its key is the one that counts.
        key = load_private_key(read_private(path), str(path))
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise InternalError(f"{path} was made by somebody else")
        certificate = service_certificate(key, key_id, self._start(before))
        key_files.place(path.with_name(f"{key_id}{key_files.CERTIFICATE_SUFFIX}"), certificate, 0o644)
        return self._files()

    def _start(self, before: key_files.KeyFiles) -> datetime:
        return start_of_new(self._clock.now(), before.keys[0].created_at if before.keys else None)


def _new_private_key() -> bytes:
    return ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
