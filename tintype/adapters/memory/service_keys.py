"""Service keys in memory: real keys and real signatures, gone with the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tintype.domain.errors import InvalidIdentifierError, KeyManagerUnavailableError, ServiceKeyNotFoundError
from tintype.domain.values import Digest
from tintype.ports.clock import Clock
from tintype.ports.service_keys import ServiceKey
from tintype.trust.certificates import service_certificate, start_of_new
from tintype.trust.signing import key_type_of, sign_digest


@dataclass(slots=True)
class MemoryKeyManager:
    """What all participants share. While ``is_away``, it does not answer."""

    clock: Clock
    is_away: bool = False
    held: dict[str, tuple[ec.EllipticCurvePrivateKey, ServiceKey]] = field(default_factory=dict, repr=False)


class MemoryServiceKeys:
    """One participant's view of a key manager in memory."""

    def __init__(self, manager: MemoryKeyManager) -> None:
        self._manager = manager

    @classmethod
    async def prepared(cls, manager: MemoryKeyManager, first_key_id: str) -> MemoryServiceKeys:
        """A view of the manager, which has a key by then."""
        keys = cls(manager)
        if not manager.held:
            await keys.rotate(first_key_id)
        return keys

    async def keys(self) -> Sequence[ServiceKey]:
        """All keys, newest first."""
        self._require_answer()
        found = [key for _, key in self._manager.held.values()]
        found.sort(key=lambda key: (key.created_at, key.id), reverse=True)
        return [replace(key, is_active=key is found[0]) for key in found]

    async def sign(self, key_id: str, digest: Digest) -> bytes:
        """Sign with a key that is there."""
        self._require_answer()
        if key_id not in self._manager.held:
            raise ServiceKeyNotFoundError(f"the service has no key {key_id[:80]!r} that signs")
        return sign_digest(self._manager.held[key_id][0], digest)

    async def rotate(self, key_id: str) -> ServiceKey:
        """Make a P-384 key, which signs from now on."""
        self._require_answer()
        if not key_id or not key_id.isprintable() or "/" in key_id:
            raise InvalidIdentifierError(f"{key_id[:80]!r} is not a key id")
        if key_id not in self._manager.held:
            self._manager.held[key_id] = self._made(key_id)
        return next(key for key in await self.keys() if key.id == key_id)

    def _made(self, key_id: str) -> tuple[ec.EllipticCurvePrivateKey, ServiceKey]:
        private = ec.generate_private_key(ec.SECP384R1())
        newest = max((key.created_at for _, key in self._manager.held.values()), default=None)
        pem = service_certificate(private, key_id, start_of_new(self._manager.clock.now(), newest))
        created_at = x509.load_pem_x509_certificate(pem).not_valid_before_utc
        return private, ServiceKey(key_id, key_type_of(private, key_id), pem, created_at, is_active=True)

    def _require_answer(self) -> None:
        if self._manager.is_away:
            raise KeyManagerUnavailableError("the key manager in memory is away")
