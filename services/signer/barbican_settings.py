"""What the signer can be told about a Barbican that has publishers' certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tintype.runtime.settings import Section


class BarbicanSection(Section):
    """The table ``[signer.barbican]``: certificates that certificate_dir does not have are looked for in a Barbican.

    The signer asks as itself, and sees what its project or an access list of Barbican's shows it.
    """

    auth_url: str = Field(
        default="", description="Keystone's URL, such as https://keystone.example.org/v3; unset is no Barbican."
    )
    username: str = Field(default="", description="The signer's user in Keystone.")
    user_domain: str = Field(default="Default", description="The name of that user's domain.")
    project: str = Field(default="", description="The name of the project in which the user asks.")
    project_domain: str = Field(default="Default", description="The name of that project's domain.")
    application_credential_id: str = Field(
        default="", description="An application credential, instead of a user and a project."
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the user's password, or the application credential's secret, in one line; nobody else "
        "may read it.",
    )
    region: str = Field(default="", description="Barbican's region in Keystone's catalog; empty is the only one.")
    interface: Literal["public", "internal", "admin"] = Field(
        default="public", description="Which of Barbican's endpoints in the catalog to ask."
    )
    endpoint: str = Field(default="", description="Barbican's URL, instead of the one in the catalog.")
    ca_file: Path | None = Field(
        default=None, description="Authorities for TLS in PEM, instead of the system's: of Keystone and Barbican."
    )
    timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Seconds that one question may take, signing in to Keystone included."
    )
    cache_s: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="Seconds for which a certificate is kept: so long it may count after it was deleted.",
    )

    @field_validator("auth_url", "endpoint")
    @classmethod
    def _are_urls(cls, url: str) -> str:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        if "@" in url:
            raise ValueError("must not hold a password: that has a file of its own")
        return url

    @model_validator(mode="after")
    def _says_who_asks(self) -> BarbicanSection:
        given = self.model_fields_set & {
            "username",
            "project",
            "application_credential_id",
            "password_file",
            "endpoint",
        }
        if not self.auth_url:
            if given:
                raise ValueError("auth_url is missing, without which the rest means nothing")
            return self
        if self.password_file is None:
            raise ValueError("password_file is missing")
        if bool(self.username) == bool(self.application_credential_id):
            raise ValueError("set a username, or else an application_credential_id")
        if self.username and not self.project:
            raise ValueError("project is missing: in which one does the user ask?")
        return self

    @property
    def is_set(self) -> bool:
        """Whether there is a Barbican."""
        return bool(self.auth_url)
