"""The table ``[stores.NAME]`` of a store in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tintype.adapters.store_section import StoreSection


class FileStoreSettings(StoreSection):
    """A directory, or an NFS mount."""

    type: Literal["file"] = Field(default="file", description="A directory, or an NFS mount.")
    path: Path = Field(description="The directory.")
