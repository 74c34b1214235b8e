"""Signing in at OpenStack Identity (Keystone) v3, as every part that speaks to an OpenStack service does."""

from __future__ import annotations

from typing import Protocol

from keystoneauth1.identity import v3
from keystoneauth1.identity.base import BaseIdentityPlugin


class KeystoneUser(Protocol):
    """What settings say of the service's own user; with ``application_credential_id`` the rest is not used."""

    @property
    def auth_url(self) -> str:
        """Keystone's own URL, with ``/v3``."""
        ...

    @property
    def application_credential_id(self) -> str:
        """Of an application credential; empty to sign in with user and project."""
        ...

    @property
    def username(self) -> str:
        """The user's name."""
        ...

    @property
    def user_domain(self) -> str:
        """The domain of the user, by its name."""
        ...

    @property
    def project(self) -> str:
        """The project's name."""
        ...

    @property
    def project_domain(self) -> str:
        """The domain of the project, by its name."""
        ...


def keystone_plugin(user: KeystoneUser, secret: str) -> BaseIdentityPlugin:
    """What signs in with ``secret``: the application credential's, or the user's password."""
    if user.application_credential_id:
        return v3.ApplicationCredential(
            user.auth_url,
            application_credential_id=user.application_credential_id,
            application_credential_secret=secret,
        )
    return v3.Password(
        user.auth_url,
        username=user.username,
        password=secret,
        user_domain_name=user.user_domain,
        project_name=user.project,
        project_domain_name=user.project_domain,
    )
