"""The service's keys in a PKCS #11 token: a hardware security module, or a program that stands in for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import pkcs11

from services.signer.keys import token_objects
from services.signer.keys.names import checked_key_id
from services.signer.keys.one_thread import OneThread
from tintype.domain.errors import (
    ConfigurationError,
    KeyManagerUnavailableError,
    KeyUnreadableError,
    ServiceKeyNotFoundError,
)
from tintype.domain.values import Digest
from tintype.ports.clock import Clock
from tintype.ports.service_keys import ServiceKey
from tintype.trust.private_files import read_secret

T = TypeVar("T")

_REFUSED_PIN = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired)


@dataclass(frozen=True, slots=True)
class Token:
    """Which token, and how to get in: the path of the module, the token's label, and a private file with the PIN."""

    module: Path
    label: str
    pin_file: Path
    timeout_s: float = 10.0


class TokenKeys:
    """Keys in one token. The module is called in one thread, and never from two at once.

    A token knows no exclusive creation. Should two replicas make a key of the same id in the same instant, that of the
    smaller CKA_ID counts; what was signed with the other before would no longer verify.

    Whatever the token answers badly ends the session: the next call begins anew, so that a token that comes back is
    found by itself. A PIN that was refused is not tried again before the file says another: tokens count, and lock.
    """

    def __init__(self, token: Token, clock: Clock) -> None:
        self._token = token
        self._clock = clock
        self._thread = _thread_of(token.module)
        self._session: pkcs11.Session | None = None
        self._refused_pin: str | None = None

    async def prepare(self, first_key_id: str) -> None:
        """Find the token, and make the first key where there is none.

        Raises:
            ConfigurationError: the PIN cannot be read, or is refused.
            KeyPermissionsError: others may read the PIN.
            KeyManagerUnavailableError: the token does not answer.
        """
        read_secret_of(self._token)

        def work(session: pkcs11.Session) -> Sequence[ServiceKey]:
            if not token_objects.certified(session):
                token_objects.make(session, first_key_id, self._clock.now())
            return token_objects.service_keys(session)

        try:
            keys = await self._do(work)
        except KeyManagerUnavailableError as exc:
            if self._refused_pin is None:
                raise
            # Whoever restarts the service tries the PIN again: this is not to be tried before it is corrected.
            raise ConfigurationError(f"signer.pkcs11_pin_file: {exc.message}") from exc
        if not any(key.is_active for key in keys):
            raise KeyUnreadableError(f"token {self._token.label!r} has certificates, and no private key that signs")

    async def keys(self) -> Sequence[ServiceKey]:
        """All keys, newest first."""
        found = await self._do(token_objects.service_keys)
        if not found:
            raise KeyManagerUnavailableError(f"token {self._token.label!r} has lost its keys")
        return found

    async def sign(self, key_id: str, digest: Digest) -> bytes:
        """Sign in the token."""
        return await self._do(lambda session: token_objects.sign(session, key_id, digest))

    async def rotate(self, key_id: str) -> ServiceKey:
        """Make a P-384 key in the token, which signs from now on."""
        checked_key_id(key_id)

        def work(session: pkcs11.Session) -> ServiceKey:
            token_objects.make(session, key_id, self._clock.now())
            return next(key for key in token_objects.service_keys(session) if key.id == key_id)

        return await self._do(work)

    async def aclose(self) -> None:
        """Leave the token."""
        with suppress(TimeoutError):
            await self._thread.run(self._leave, self._token.timeout_s)

    async def _do(self, work: Callable[[pkcs11.Session], T]) -> T:
        try:
            return await self._thread.run(lambda: self._work(work), self._token.timeout_s)
        except TimeoutError as exc:
            raise KeyManagerUnavailableError(f"token {self._token.label!r} does not answer in time") from exc

    def _work(self, work: Callable[[pkcs11.Session], T]) -> T:
        try:
            return work(self._entered())
        except pkcs11.PKCS11Error as exc:
            self._leave()
            raise KeyManagerUnavailableError(
                f"token {self._token.label!r} cannot be used: {type(exc).__name__}"
            ) from exc
        except ServiceKeyNotFoundError:
            raise
        except (OSError, ConfigurationError) as exc:
            raise KeyManagerUnavailableError(f"token {self._token.label!r} cannot be used: {exc}") from exc

    def _entered(self) -> pkcs11.Session:
        if self._session is not None:
            # A token that was removed still has a session, in which nothing is found.
            self._session.token.slot.get_token()
            return self._session
        pin = read_secret_of(self._token)
        if pin == self._refused_pin:
            raise ConfigurationError(f"the PIN in {self._token.pin_file} was refused, and is not tried again")
        token = pkcs11.lib(str(self._token.module)).get_token(token_label=self._token.label)
        try:
            self._session = token.open(rw=True, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            self._session = token.open(rw=True)  # the login is the whole process's
        except _REFUSED_PIN:
            self._refused_pin = pin
            raise
        return self._session

    def _leave(self) -> None:
        self._session = None
        with suppress(pkcs11.PKCS11Error):
            # The module looks for tokens when it begins.
            pkcs11.lib(str(self._token.module)).finalize()


@cache
def _thread_of(module: Path) -> OneThread:
    """A module has one state for the whole process: whoever ends it ends it for all."""
    return OneThread(f"pkcs11-{module.stem}")


def read_secret_of(token: Token) -> str:
    """The PIN.

    Raises:
        ConfigurationError: it cannot be read, or others may read it.
    """
    try:
        return read_secret(token.pin_file)
    except OSError as exc:
        raise ConfigurationError(f"signer.pkcs11_pin_file: {token.pin_file} cannot be read: {exc.strerror}") from exc
