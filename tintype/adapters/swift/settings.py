"""The table ``[stores.NAME]`` of a store in containers of OpenStack Object Storage (Swift)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tintype.adapters.store_section import StoreSection


class SwiftStoreSettings(StoreSection):
    """Containers of OpenStack Object Storage (Swift)."""

    type: Literal["swift"] = Field(description="Containers of OpenStack Object Storage (Swift).")
    container: str = Field(default="tintype", min_length=1, max_length=200, description="The container.")
