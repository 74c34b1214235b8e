"""What ``tintype up --tls`` makes: a throw-away CA, certificates of it, and the token of whoever started the stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tintype.adapters.nats.server import ServerTls
from tintype.codec.tokens import ANY_PROJECT, entry_of, new_token
from tintype.domain.errors import ConfigurationError
from tintype.embedded.authority import CA_CERTIFICATE, CERTIFICATE, KEY, open_authority
from tintype.embedded.directory import StackDirectory, write_atomically

NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Encryption:
    """The files of an encrypted stack."""

    services: Path
    client: Path
    token_file: Path
    tokens_file: Path

    @property
    def ca(self) -> Path:
        """Whom all of them trust."""
        return self.services / CA_CERTIFICATE

    @property
    def nats(self) -> ServerTls:
        """What the event log's server shows, and asks for."""
        return ServerTls(self.services / CERTIFICATE, self.services / KEY, self.ca)

    def sections(self) -> Mapping[str, Mapping[str, str]]:
        """What the services are told."""
        certificate, key = str(self.services / CERTIFICATE), str(self.services / KEY)
        return {
            "tls": {"certificate": certificate, "key": key, "ca": str(self.ca)},
            "auth": {"tokens_file": str(self.tokens_file)},
        }

    def client_settings(self) -> Mapping[str, str]:
        """What stands in ``client.toml``."""
        return {
            "ca": str(self.client / CA_CERTIFICATE),
            "certificate": str(self.client / CERTIFICATE),
            "key": str(self.client / KEY),
            "token_file": str(self.token_file),
        }


def prepare_encryption(directory: StackDirectory, actor: str) -> Encryption:
    """Make what is missing or about to expire; ``actor`` is whose token it is.

    Raises:
        ConfigurationError: the directory cannot be written, or something else lies there.
    """
    made = Encryption(directory.tls / "services", directory.tls / "client", directory.token_file, directory.tokens_file)
    try:
        authority = open_authority(directory.tls)
        authority.issue(made.services, NAMES)
        authority.issue(made.client, ["tintype-client", *NAMES])
        if not (made.token_file.is_file() and made.tokens_file.is_file()):
            token = new_token()
            write_atomically(made.tokens_file, entry_of(token, actor, [ANY_PROJECT], is_admin=True))
            write_atomically(made.token_file, f"{token}\n")
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{directory.tls} cannot be used: {exc}") from exc
    return made
