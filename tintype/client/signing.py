"""Who signs an upload: the service, with a key that never leaves its key manager, or a private key at hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tintype.client.errors import InvalidRequestError, SigningKeyError, trust_extra_missing
from tintype.domain.attributes import HASH_METHODS
from tintype.domain.errors import TintypeError
from tintype.domain.values import Digest

if TYPE_CHECKING:
    from tintype.trust.signing import PrivateKey

SERVICE_HASH_METHODS = ("SHA-224", "SHA-256")
"""What the service signs over on request, so that no such signature passes for one over its own attestations."""

SignDigest = Callable[[Digest], Awaitable[Mapping[str, str]]]
"""Signs a digest: Glance's four properties."""


def hash_algorithm_of(hash_method: str) -> str:
    """The name of the digest's algorithm.

    Raises:
        InvalidRequestError: no signature is made over a digest of that kind.
    """
    if hash_method not in HASH_METHODS:
        raise InvalidRequestError(f"hash method {hash_method[:80]!r} is not one of {', '.join(HASH_METHODS)}")
    return HASH_METHODS[hash_method]


@dataclass(frozen=True, slots=True)
class ServiceSigner:
    """The service signs, where its operator allows it for the project (``signer.sign_for``): SHA-256, or SHA-224.

    SHA-256 costs nothing more where it is the site's own hash, as it is by default. Over longer digests the service
    signs its own word alone.
    """

    hash_method: str = "SHA-256"

    async def prepared(self, by_service: SignDigest) -> SignDigest:
        """What signs; ``by_service`` asks the service to.

        Raises:
            InvalidRequestError: the service does not sign over that hash; nothing is sent.
        """
        if self.hash_method not in SERVICE_HASH_METHODS:
            raise InvalidRequestError(
                f"the service signs over {' or '.join(SERVICE_HASH_METHODS)}, and not over {self.hash_method[:80]!r}"
            )
        return by_service


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """A private key in a PEM file signs, which nobody else may read (mode 0600).

    ``certificate_id`` is the id by which the service knows the key's certificate. The passphrase of an encrypted key
    comes from a file, which nobody else may read either, or from ``ask_passphrase``, which is told what for.
    """

    private_key: Path | str
    certificate_id: str
    passphrase_file: Path | str | None = None
    hash_method: str = "SHA-256"
    ask_passphrase: Callable[[str], str] | None = field(default=None, repr=False)
    loaded: PrivateKey | None = field(default=None, repr=False, compare=False)
    """The key, once :meth:`unlocked` has read it."""

    async def prepared(self, by_service: SignDigest) -> SignDigest:
        """What signs: the key is read now, so that nothing is sent for a key that cannot be used.

        Raises:
            SigningKeyError: others may read the key, or it cannot be read or decrypted, or is of no kind that signs.
            ConfigurationError: the extra ``tintype[trust]`` is not installed.
            OSError: the file cannot be opened.
        """
        key = await asyncio.to_thread(self.load)

        async def sign(digest: Digest) -> Mapping[str, str]:
            return await asyncio.to_thread(self.signed, key, digest)

        return sign

    def unlocked(self) -> LocalSigner:
        """The same, with its key read: nobody is asked again.

        Raises:
            SigningKeyError, ConfigurationError, OSError: as :meth:`prepared`.
        """
        return replace(self, loaded=self.load())

    def load(self) -> PrivateKey:
        """Read the key.

        Raises:
            SigningKeyError, ConfigurationError, OSError: as :meth:`prepared`.
        """
        if self.loaded is not None:
            return self.loaded
        from tintype.trust.private_files import read_private

        try:
            return self._loaded(read_private(Path(self.private_key)))
        except ModuleNotFoundError as exc:
            raise trust_extra_missing(exc) from exc
        except TintypeError as exc:
            raise SigningKeyError(exc.message, reason=exc.reason, hint=exc.hint) from exc

    def _loaded(self, pem: bytes) -> PrivateKey:
        from tintype.domain.errors import KeyPassphraseError
        from tintype.trust.private_files import read_secret
        from tintype.trust.signing import load_private_key

        name = os.fspath(self.private_key)
        passphrase = read_secret(Path(self.passphrase_file)) if self.passphrase_file is not None else None
        try:
            return load_private_key(pem, name, passphrase)
        except KeyPassphraseError:
            if passphrase is not None or self.ask_passphrase is None:
                raise
            return load_private_key(pem, name, self.ask_passphrase(name))

    def signed(self, key: PrivateKey, digest: Digest) -> Mapping[str, str]:
        """Sign a digest with the key that :meth:`load` has read."""
        from tintype.trust.signing import key_type_of, sign_digest, signature_properties

        key_type = key_type_of(key, os.fspath(self.private_key))
        return signature_properties(sign_digest(key, digest), digest, key_type, self.certificate_id)


UploadSigner = ServiceSigner | LocalSigner
