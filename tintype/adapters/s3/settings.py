"""The table ``[stores.NAME]`` of a store in an S3 bucket."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tintype.adapters.store_section import StoreSection


class S3StoreSettings(StoreSection):
    """An S3 bucket."""

    type: Literal["s3"] = Field(description="An S3 bucket.")
    bucket: str = Field(min_length=3, max_length=63, description="The bucket; it must exist.")
