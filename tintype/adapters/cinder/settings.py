"""The table ``[stores.NAME]`` of a store in volumes of OpenStack Block Storage (Cinder)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tintype.adapters.store_section import StoreSection


class CinderStoreSettings(StoreSection):
    """Volumes of OpenStack Block Storage (Cinder)."""

    type: Literal["cinder"] = Field(description="Volumes of OpenStack Block Storage (Cinder).")
    volume_type: str = Field(default="", max_length=255, description="The type of the volumes; empty is the default.")
    auth_url: str = Field(
        default="",
        description="Keystone's URL, such as https://keystone.example.org/v3; unset where Cinder asks for no sign-in.",
    )
    username: str = Field(default="", max_length=255, description="The service's user in Keystone.")
    user_domain: str = Field(default="Default", max_length=255, description="The name of that user's domain.")
    project: str = Field(
        default="", max_length=255, description="The name of the project of the volumes; without auth_url, its id."
    )
    project_domain: str = Field(default="Default", max_length=255, description="The name of that project's domain.")
    application_credential_id: str = Field(
        default="", max_length=255, description="An application credential, instead of a user and a project."
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the user's password, or the application credential's secret, in one line; nobody else "
        "may read it.",
    )
    region: str = Field(default="", max_length=255, description="Cinder's region in Keystone's catalog.")
    interface: Literal["public", "internal", "admin"] = Field(
        default="internal", description="Which of Cinder's endpoints in the catalog to ask."
    )
    endpoint: str = Field(default="", description="Cinder's URL with /v3, instead of the one in the catalog.")
    ca_file: Path | None = Field(
        default=None, description="Authorities for TLS in PEM, instead of the system's: of Keystone and Cinder."
    )
    lease_s: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="Seconds after which a killed service's volumes and attachments may be taken over. The clocks of "
        "the hosts may differ by a third of it.",
    )
    wait_s: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="Seconds that a volume may take to be made, extended, attached or deleted.",
    )
    max_attachments: int = Field(
        default=32, ge=1, le=1024, description="How many volumes may be attached to this host at once by one service."
    )
    probe_attach: bool = Field(
        default=True,
        description="Whether `tintype store check` makes, attaches and deletes a volume of 1 GiB.",
    )
    root_helper: str = Field(
        default="sudo", max_length=255, description="How os-brick runs what only root may; unused where root runs it."
    )
    lock_path: Path | None = Field(
        default=None,
        description="Directory of os-brick's locks: the same for all programs that attach volumes to this host, such "
        "as nova-compute; unset is a directory of the service's own.",
    )
    host_address: str = Field(default="127.0.0.1", max_length=64, description="This host's address, told to Cinder.")
    multipath: bool = Field(default=False, description="Attach by all paths where the storage offers several.")
    ceph_keyring: Path | None = Field(
        default=None,
        description="Keyring of Cinder's user in Ceph, where volumes are in Ceph; unset is "
        "/etc/ceph/CLUSTER.client.USER.keyring.",
    )

    @field_validator("auth_url", "endpoint")
    @classmethod
    def _are_urls(cls, url: str) -> str:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        if "@" in url:
            raise ValueError("must not hold a password: that has a file of its own")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _says_who_asks(self) -> CinderStoreSettings:
        if not self.auth_url:
            if self.password_file or self.username or self.application_credential_id:
                raise ValueError("auth_url is missing, without which nobody is signed in")
            if not (self.endpoint and self.project):
                raise ValueError("set auth_url, or for a Cinder without Keystone its endpoint and a project")
            return self
        if self.password_file is None:
            raise ValueError("password_file is missing")
        if bool(self.username) == bool(self.application_credential_id):
            raise ValueError("set a username, or else an application_credential_id")
        if self.username and not self.project:
            raise ValueError("project is missing: in which one are the volumes?")
        return self
