"""A store in Cinder signs in at a real Keystone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.keystone_barbican import Site, password_of
from tintype.adapters.cinder.client import CinderClient
from tintype.adapters.cinder.settings import CinderStoreSettings
from tintype.domain.errors import StoreAccessDeniedError, StoreUnavailableError

pytestmark = pytest.mark.barbican


@pytest.mark.parametrize(
    ("password", "error"),
    [
        ("wrong", StoreAccessDeniedError),
        (password_of("publisher"), StoreUnavailableError),  # it is let in, and this Keystone's catalog has no Cinder
    ],
)
def test_keystone_lets_in_who_has_the_password(
    key_manager: Site, tmp_path: Path, password: str, error: type[StoreUnavailableError]
) -> None:
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    client = CinderClient(
        "main",
        CinderStoreSettings(
            type="cinder",
            auth_url=key_manager.auth_url,
            username="publisher",
            project="images",
            password_file=secret,
        ),
    )
    with pytest.raises(error) as caught:
        client.call("GET", "/volumes")
    assert type(caught.value) is error
    assert password not in caught.value.message
    client.close()
