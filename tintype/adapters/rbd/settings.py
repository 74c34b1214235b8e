"""The table ``[stores.NAME]`` of a store in a pool of Ceph block devices (RBD)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tintype.adapters.store_section import StoreSection


class RbdStoreSettings(StoreSection):
    """A pool of Ceph block devices (RBD)."""

    type: Literal["rbd"] = Field(description="A pool of Ceph block devices (RBD).")
    pool: str = Field(default="images", min_length=1, max_length=200, description="The pool; it must exist.")
