"""The table ``[stores.NAME]`` of a store in containers of OpenStack Object Storage (Swift)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tintype.adapters.store_section import StoreSection


class SwiftStoreSettings(StoreSection):
    """Containers of OpenStack Object Storage (Swift)."""

    type: Literal["swift"] = Field(description="Containers of OpenStack Object Storage (Swift).")
    container: str = Field(
        default="tintype",
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The container; the parts of images are in a second one, whose name ends in _segments.",
    )
    create_containers: bool = Field(default=False, description="Make both containers at start where they are missing.")
    auth_url: str = Field(
        description="Keystone's URL, such as https://keystone.example.org/v3; with auth = v1 the one that gives tokens."
    )
    auth: Literal["keystone", "v1"] = Field(
        default="keystone", description="How the service signs in: Keystone's version 3, or Swift's own version 1."
    )
    username: str = Field(
        default="", max_length=256, description="The service's user; with auth = v1 the whole ACCOUNT:USER."
    )
    user_domain: str = Field(default="Default", description="The name of that user's domain.")
    project: str = Field(default="", description="The name of the project whose containers they are.")
    project_domain: str = Field(default="Default", description="The name of that project's domain.")
    application_credential_id: str = Field(
        default="", description="An application credential, instead of a user and a project."
    )
    password_file: Path = Field(
        description="File with the user's password or key, or the application credential's secret, in one line; nobody "
        "else may read it."
    )
    region: str = Field(default="", description="Swift's region in Keystone's catalog; empty is the only one.")
    interface: Literal["public", "internal", "admin"] = Field(
        default="public", description="Which of Swift's endpoints in the catalog to use."
    )
    storage_url: str = Field(
        default="",
        description="The account's URL, such as https://swift.example.org/v1/AUTH_ID, instead of the told one.",
    )
    ca_file: Path | None = Field(default=None, description="Certificates (PEM) to trust instead of the system's.")
    segment_size_mib: int = Field(
        default=16, ge=1, le=1024, description="MiB of a segment; three of them are in memory for each upload."
    )
    lease_s: int = Field(
        default=60, ge=2, le=3600, description="Seconds after which a killed writer's upload can be taken over."
    )
    retired_s: int = Field(
        default=3600,
        ge=0,
        le=604_800,
        description="Seconds for which the bytes that a replacement took the place of are kept for whoever reads them.",
    )
    connections: int = Field(default=16, ge=4, le=256, description="Requests that are made at once.")
    temp_url_key_file: Path | None = Field(
        default=None,
        description="File with a temporary-URL key of the account; without it no direct locations are given.",
    )
    temp_url_expires_max_s: int = Field(
        default=3600, ge=1, le=604_800, description="Seconds that a direct location is valid at most."
    )

    @field_validator("auth_url", "storage_url")
    @classmethod
    def _are_plain_urls(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username):
            raise ValueError("must be an http:// or https:// URL, without credentials and query")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _says_who_asks(self) -> SwiftStoreSettings:
        if not self.auth_url:
            raise ValueError("auth_url is missing")
        if self.auth == "v1" and (not self.username or self.application_credential_id):
            raise ValueError("auth = v1 needs a username, and knows no application credentials")
        if self.auth == "keystone" and bool(self.username) == bool(self.application_credential_id):
            raise ValueError("set a username, or else an application_credential_id")
        if self.auth == "keystone" and self.username and not self.project:
            raise ValueError("project is missing: whose containers are they?")
        return self
