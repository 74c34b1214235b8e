"""The table ``[stores.NAME]`` of a store in a pool of Ceph block devices (RBD)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tintype.adapters.store_section import StoreSection


class RbdStoreSettings(StoreSection):
    """A pool of Ceph block devices (RBD)."""

    type: Literal["rbd"] = Field(description="A pool of Ceph block devices (RBD).")
    pool: str = Field(default="images", min_length=1, max_length=200, description="The pool; it must exist.")
    user: str = Field(
        default="tintype",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Ceph's user, without `client.`; docs/stores/rbd.md lists what it needs.",
    )
    conf_file: Path = Field(default=Path("/etc/ceph/ceph.conf"), description="Ceph's configuration file.")
    keyring_file: Path | None = Field(
        default=None, description="The file with the user's key; unset, where the configuration file says."
    )
    cluster: str = Field(
        default="ceph", pattern=r"^[A-Za-z0-9._-]{1,100}$", description="The cluster's name in Ceph's own file names."
    )
    object_size_mib: Literal[1, 2, 4, 8, 16, 32] = Field(
        default=8, description="Mebibytes of each object that an image is cut into."
    )
    object_map: bool = Field(
        default=True,
        description="Give images an object map, which makes holes quick; kernels before 5.3 cannot map such images.",
    )
    writes_in_flight: int = Field(
        default=4, ge=1, le=64, description="Pieces of 4 MiB on their way at once, for each image that is written."
    )
    python: Path | None = Field(
        default=None,
        description="The interpreter that Ceph's Python bindings are for; unset, /usr/bin/python3.",
    )
