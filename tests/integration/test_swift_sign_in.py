"""Signing in for Swift at a real Keystone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.backends.keystone_barbican import Site, password_of
from tests.backends.swift_store import private_file
from tintype.adapters.swift.credentials import Credentials, credentials
from tintype.adapters.swift.settings import SwiftStoreSettings
from tintype.domain.errors import StoreAccessDeniedError, StoreMissingError, StoreUnavailableError

pytestmark = pytest.mark.barbican

ACCOUNT = "http://127.0.0.1:1/v1/AUTH_images"


def signing_in(directory: Path, http: aiohttp.ClientSession, auth_url: str, **changes: Any) -> Credentials:
    told = {
        "type": "swift",
        "auth_url": auth_url,
        "username": "publisher",
        "project": "images",
        "password_file": private_file(directory / "password", changes.pop("password", password_of("publisher"))),
    }
    return credentials("main", SwiftStoreSettings.model_validate(told | changes), http)


async def test_a_token_is_kept_until_it_has_expired(key_manager: Site, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        found = signing_in(tmp_path, http, key_manager.auth_url, storage_url=ACCOUNT)
        access = await found.access()
        assert access.storage_url == ACCOUNT and access.token not in repr(access)
        assert await found.access() is access
        assert (await found.access(expired=access)).token != access.token
        found.close()


async def test_an_application_credential_signs_in(key_manager: Site, tmp_path: Path) -> None:
    session = key_manager.session("publisher")
    user = session.get_user_id()
    asked = {"application_credential": {"name": tmp_path.name, "roles": [{"name": "member"}]}}
    made = session.post(f"{key_manager.auth_url}/users/{user}/application_credentials", json=asked).json()
    told = made["application_credential"]
    changes = {"username": "", "project": "", "application_credential_id": told["id"], "password": told["secret"]}
    async with aiohttp.ClientSession() as http:
        found = signing_in(tmp_path, http, key_manager.auth_url, storage_url=ACCOUNT, **changes)
        assert (await found.access()).token
        found.close()


async def test_what_keystone_refuses_is_told_as_what_it_is(key_manager: Site, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], type[StoreUnavailableError]]] = [
        ({"password": "wrong"}, StoreAccessDeniedError),
        ({}, StoreMissingError),  # this catalog has no object store
        ({"auth_url": "http://127.0.0.1:1/v3"}, StoreUnavailableError),
    ]
    async with aiohttp.ClientSession() as http:
        for changes, expected in cases:
            auth_url = changes.pop("auth_url", key_manager.auth_url)
            found = signing_in(tmp_path, http, auth_url, **changes)
            with pytest.raises(StoreUnavailableError) as caught:
                await found.access()
            assert type(caught.value) is expected
            assert "wrong" not in caught.value.message
            found.close()
