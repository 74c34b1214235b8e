"""Signing images on request, for the projects that the site signs for, and rotating the key that does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from services.signer.keys.names import requested_key_id
from services.signer.settings import ALL_PROJECTS
from tintype.domain.access import Caller, require_admin
from tintype.domain.errors import (
    InvalidDigestError,
    InvalidIdentifierError,
    SigningNotPermittedError,
    TooManyKeysError,
)
from tintype.domain.values import Digest
from tintype.ports.service_keys import ServiceKey, ServiceKeys, active_key
from tintype.trust.dsse import IMAGE_DIGESTS
from tintype.trust.signing import signature_properties

log = structlog.get_logger(__name__)

MAX_REQUEST_ID_LENGTH = 128

MAX_KEYS = 200
"""More would fit into no trust store; and a directory that is too full would stop the signer."""


@dataclass(frozen=True, slots=True)
class SignedDigest:
    """Glance's four properties for a signature, and the certificate (PEM) that verifies it."""

    properties: Mapping[str, str]
    certificate: bytes


class DigestSigning:
    """Signs with the newest key. Each signature and each new key leaves a line in the log: who asked, and for what."""

    def __init__(self, keys: ServiceKeys, sign_for: Collection[str]) -> None:
        self._keys = keys
        self._sign_for = sign_for

    async def sign(self, caller: Caller, digest: Digest) -> SignedDigest:
        """Sign the digest of an image's bytes.

        Raises:
            SigningNotPermittedError: the site does not sign for the caller's project.
            InvalidDigestError: the digest is not of SHA-224 or SHA-256.
            KeyManagerUnavailableError: the key manager does not answer, or has no key that signs.
        """
        if ALL_PROJECTS not in self._sign_for and caller.project not in self._sign_for:
            raise SigningNotPermittedError(f"this site signs no images of project {caller.project!r}")
        if digest.algorithm not in IMAGE_DIGESTS:
            # The caller says what the digest is: of SHA-384, or a longer one that is cut, it could be an envelope's.
            raise InvalidDigestError(
                f"the service signs digests of {' and '.join(IMAGE_DIGESTS)}, and not of {digest.algorithm}: "
                "its signatures over longer ones are its own word"
            )
        key = active_key(await self._keys.keys())
        signature = await self._keys.sign(key.id, digest)
        log.info("digest was signed", key_id=key.id, digest=str(digest), project=caller.project, actor=caller.actor)
        return SignedDigest(signature_properties(signature, digest, key.key_type, key.id), key.certificate)

    async def rotate(self, caller: Caller, request_id: str) -> ServiceKey:
        """Make a new key, which signs from now on; the same ``request_id`` twice makes one.

        Raises:
            NotPermittedError: the caller is no administrator.
            InvalidIdentifierError: the request id is missing, too long, or cannot be printed.
            TooManyKeysError: there are :data:`MAX_KEYS` already.
            KeyManagerUnavailableError: the key manager does not answer.
        """
        require_admin(caller, "rotate the service's keys")
        if not 0 < len(request_id) <= MAX_REQUEST_ID_LENGTH or not request_id.isprintable():
            raise InvalidIdentifierError(f"a request id has 1 to {MAX_REQUEST_ID_LENGTH} printable characters")
        before = {key.id for key in await self._keys.keys()}
        key_id = requested_key_id(request_id)
        if key_id not in before and len(before) >= MAX_KEYS:
            raise TooManyKeysError(f"the service has {len(before)} keys, and makes no further one")
        key = await self._keys.rotate(key_id)
        log.info("key was rotated", key_id=key.id, is_new=key.id not in before, actor=caller.actor)
        return key
