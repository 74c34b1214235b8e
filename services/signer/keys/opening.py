"""The key managers that the settings name: of the service's own keys, and of publishers' certificates."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from importlib.util import find_spec

from services.signer.keys.directory import CertificateDirectory
from services.signer.keys.key_directory import KeyDirectory
from services.signer.keys.names import new_key_id
from services.signer.keys.several import SeveralSources
from services.signer.settings import SignerSection
from tintype.domain.errors import ConfigurationError
from tintype.ports.certificates import CertificateSource
from tintype.ports.clock import Clock
from tintype.ports.service_keys import ServiceKeys


async def open_service_keys(own: SignerSection, clock: Clock, stack: AsyncExitStack) -> ServiceKeys:
    """The service's keys, with at least one of them.

    Raises:
        ConfigurationError: no place for keys is set, or it cannot be used.
        KeyPermissionsError: others may read a key, or the PIN, or write to the directory.
        KeyManagerUnavailableError: the token does not answer.
    """
    first_key_id = new_key_id(clock.now())
    if own.pkcs11_module is not None and own.pkcs11_pin_file is not None:
        if find_spec("pkcs11") is None:
            raise ConfigurationError(
                "signer.pkcs11_module: install what speaks to tokens: pip install 'tintype[pkcs11]'"
            )
        from services.signer.keys.token_keys import Token, TokenKeys

        token = Token(own.pkcs11_module, own.pkcs11_token, own.pkcs11_pin_file, own.pkcs11_timeout_s)
        in_token = TokenKeys(token, clock)
        stack.push_async_callback(in_token.aclose)
        await in_token.prepare(first_key_id)
        return in_token
    if own.key_dir is None:
        raise ConfigurationError(
            "signer.key_dir is missing: the signer needs a directory for its own keys, or a token (pkcs11_module)"
        )
    in_files = KeyDirectory(own.key_dir, clock)
    await in_files.prepare(first_key_id)
    return in_files


def open_certificates(own: SignerSection, stack: AsyncExitStack) -> CertificateSource:
    """Where publishers' certificates are: the directory, and behind it a Barbican.

    Raises:
        ConfigurationError: the Barbican is set up wrongly, or what speaks to it is not installed.
        KeyPermissionsError: others may read the password for it.
    """
    directory = CertificateDirectory(own.certificate_dir)
    if not own.barbican.is_set:
        return directory
    if find_spec("barbicanclient") is None:
        raise ConfigurationError("signer.barbican: install what speaks to Barbican: pip install 'tintype[barbican]'")
    from services.signer.keys.barbican import BarbicanCertificates

    barbican = BarbicanCertificates(own.barbican, monotonic=time.monotonic)
    stack.push_async_callback(barbican.aclose)
    return SeveralSources([directory, barbican] if own.certificate_dir else [barbican])
