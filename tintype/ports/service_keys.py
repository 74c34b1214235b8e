"""The service's own keys: what it signs attestations, checkpoints and images with. A private key never leaves here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tintype.domain.errors import KeyManagerUnavailableError
from tintype.domain.values import Digest


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """The public part of a key.

    ``id`` is also the id of its certificate (PEM). ``key_type`` is as ``img_signature_key_type`` names it.
    """

    id: str
    key_type: str
    certificate: bytes
    created_at: datetime
    is_active: bool
    """It is the one that signs now; the others only verify what they signed before."""


def active_key(keys: Sequence[ServiceKey]) -> ServiceKey:
    """The key that signs now.

    Raises:
        KeyManagerUnavailableError: none does.
    """
    for key in keys:
        if key.is_active:
            return key
    raise KeyManagerUnavailableError("the service has no key that signs")


class ServiceKeys(Protocol):
    """Keys with ids, of which one signs. Every adapter passes ``tests/contract/test_service_keys.py``."""

    async def keys(self) -> Sequence[ServiceKey]:
        """All keys that there are, newest first; never empty.

        Raises:
            KeyManagerUnavailableError: the key manager does not answer.
        """
        ...

    async def sign(self, key_id: str, digest: Digest) -> bytes:
        """Sign bytes of that digest (sha224, sha256, sha384 or sha512): ECDSA in DER, or RSA-PSS with maximum salt.

        Raises:
            ServiceKeyNotFoundError: there is no such key, or it signs no more.
            KeyManagerUnavailableError: the key manager does not answer.
        """
        ...

    async def rotate(self, key_id: str) -> ServiceKey:
        """Make the key of that new id, which signs from now on; repeated, it is the same key.

        Raises:
            KeyManagerUnavailableError: the key manager does not answer.
        """
        ...
