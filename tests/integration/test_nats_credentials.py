"""A NATS whose users prove themselves with a file of credentials (JWT and seed), as hosted ones do."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import nkeys
import pytest

from tests.backends.other_nats import configured_nats_server
from tintype.adapters.event_log import open_event_log
from tintype.domain.errors import ConfigurationError, EventLogUnavailableError
from tintype.runtime.settings import NatsSettings, TlsSettings

pytestmark = pytest.mark.nats


class Key:
    """A key of NATS: an operator's, an account's or a user's."""

    def __init__(self, prefix: int) -> None:
        self.seed = bytes(nkeys.encode_seed(os.urandom(32), prefix))
        self.pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self.pair.public_key.decode()

    def jwt(self, subject: Key, kind: str, **claims: object) -> str:
        """What this key says of another one."""
        body = {
            "jti": secrets.token_hex(16),
            "iat": 1_700_000_000,
            "iss": self.public,
            "name": kind,
            "sub": subject.public,
            "nats": {"type": kind, "version": 2, **claims},
        }
        signed = f"{encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{encoded(body)}"
        return f"{signed}.{text(self.pair.sign(signed.encode()))}"


def encoded(value: object) -> str:
    return text(json.dumps(value).encode())


def text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def write_credentials(path: Path, user: Key, jwt: str) -> Path:
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return path


@pytest.fixture(scope="module")
def account() -> Key:
    return Key(nkeys.PREFIX_BYTE_ACCOUNT)


@pytest.fixture(scope="module")
def url(account: Key, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that knows one account."""
    operator, system = Key(nkeys.PREFIX_BYTE_OPERATOR), Key(nkeys.PREFIX_BYTE_ACCOUNT)
    limits = {"mem_storage": -1, "disk_storage": -1, "streams": -1}
    every = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "imports": -1, "exports": -1, "consumer": -1, **limits}
    directory = tmp_path_factory.mktemp("nats")
    config = (
        f"operator: {operator.jwt(operator, 'operator')}\nresolver: MEMORY\n"
        f"system_account: {system.public}\nresolver_preload: {{\n"
        f"  {account.public}: {operator.jwt(account, 'account', limits=every)}\n"
        f"  {system.public}: {operator.jwt(system, 'account')}\n}}\n"
        f"jetstream {{ store_dir: {json.dumps(str(directory / 'data'))} }}\n"
    )
    with configured_nats_server(directory, config) as address:
        yield address


async def connect(url: str, credentials: Path, timeout_s: float = 20.0) -> None:
    settings = NatsSettings(url=url, credentials_file=credentials, connect_timeout_s=timeout_s)
    async with open_event_log(settings, TlsSettings(), client_name="test") as opened:
        assert await opened.log.head() == 0


async def test_a_user_of_the_account_is_let_in(url: str, account: Key, tmp_path: Path) -> None:
    user = Key(nkeys.PREFIX_BYTE_USER)
    jwt = account.jwt(user, "user", subs=-1, data=-1, payload=-1)
    await connect(url, write_credentials(tmp_path / "user.creds", user, jwt))


async def test_a_user_of_another_account_is_not(url: str, tmp_path: Path) -> None:
    user = Key(nkeys.PREFIX_BYTE_USER)
    jwt = Key(nkeys.PREFIX_BYTE_ACCOUNT).jwt(user, "user", subs=-1, data=-1, payload=-1)
    credentials = write_credentials(tmp_path / "user.creds", user, jwt)
    with pytest.raises(EventLogUnavailableError, match="Authorization Violation"):
        await connect(url, credentials, timeout_s=2.0)  # a client tries again until then


async def test_a_file_whose_seed_is_none_is_named(url: str, account: Key, tmp_path: Path) -> None:
    user = Key(nkeys.PREFIX_BYTE_USER)
    jwt = account.jwt(user, "user")
    credentials = write_credentials(tmp_path / "user.creds", user, jwt)
    credentials.write_text(credentials.read_text().replace(user.seed.decode(), "SUANOTASEED"))
    with pytest.raises(ConfigurationError, match=r"^nats\.credentials_file: ") as caught:
        await connect(url, credentials)
    assert "SUANOTASEED" not in str(caught.value)
