"""The table ``[stores.NAME]`` of a store in an S3 bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from tintype.adapters.store_section import StoreSection


class S3StoreSettings(StoreSection):
    """An S3 bucket."""

    type: Literal["s3"] = Field(description="An S3 bucket.")
    bucket: str = Field(
        min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]+[a-z0-9]$", description="The bucket; it must exist."
    )
    prefix: str = Field(
        default="",
        max_length=200,
        pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$",
        description="What the names of the store's objects begin with, where the bucket has others as well.",
    )
    endpoint_url: str = Field(default="", description="The server's http or https URL; empty is Amazon's own.")
    region: str = Field(
        default="us-east-1", pattern=r"^[A-Za-z0-9-]{1,64}$", description="The region that requests are signed for."
    )
    addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto",
        description="Whether the bucket is named in the path or in the host; auto is path with an endpoint_url.",
    )
    access_key_id: str = Field(
        default="",
        max_length=256,
        description="The access key; empty takes credentials from the environment, as Amazon's own tools do.",
    )
    secret_access_key_file: Path | None = Field(default=None, description="A file with the secret of the access key.")
    secret_access_key: SecretStr = Field(
        default=SecretStr(""), repr=False, description="The secret itself, for the environment; better use a file."
    )
    ca_file: Path | None = Field(default=None, description="Certificates (PEM) to trust instead of the system's.")
    part_size_mib: int = Field(
        default=16,
        ge=5,
        le=1024,
        description="MiB of an upload's first parts; three are in memory. Images have at most 320,000 times that.",
    )
    lease_s: float = Field(
        default=60.0, ge=1, le=3600, description="Seconds after which a killed writer's upload can be taken over."
    )
    connections: int = Field(default=16, ge=4, le=256, description="Calls that are made at once.")
    presign_expires_max_s: int = Field(
        default=3600, ge=1, le=604800, description="Seconds that a direct location is valid at most."
    )

    @field_validator("endpoint_url")
    @classmethod
    def _is_a_plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username):
            raise ValueError("endpoint_url must be http://HOST:PORT or https://HOST:PORT, without credentials")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _has_a_whole_key(self) -> S3StoreSettings:
        secrets = bool(self.secret_access_key.get_secret_value()) + (self.secret_access_key_file is not None)
        if secrets > 1:
            raise ValueError("set secret_access_key_file or secret_access_key, not both")
        if bool(self.access_key_id) != bool(secrets):
            raise ValueError("access_key_id needs secret_access_key_file or secret_access_key, and they need it")
        return self
