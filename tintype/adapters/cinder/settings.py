"""The table ``[stores.NAME]`` of a store in volumes of OpenStack Block Storage (Cinder)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tintype.adapters.store_section import StoreSection


class CinderStoreSettings(StoreSection):
    """Volumes of OpenStack Block Storage (Cinder)."""

    type: Literal["cinder"] = Field(description="Volumes of OpenStack Block Storage (Cinder).")
    volume_type: str = Field(default="", max_length=255, description="The type of the volumes; empty is the default.")
