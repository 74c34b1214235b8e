"""What every table ``[stores.NAME]`` can say, whatever kind of store it is."""

from __future__ import annotations

from pydantic import Field

from tintype.runtime.settings import Section


class StoreSection(Section):
    """A place for the bytes of images; its name is that of the table."""

    description: str = Field(default="", max_length=200, description="What the store is, for users who choose one.")
    default: bool = Field(default=False, description="Whether images go here; of several stores, exactly one.")
    weight: int = Field(
        default=100, ge=0, le=1000, description="Images are read from the store of the greatest weight that works."
    )
    read_only: bool = Field(default=False, description="Take no further bytes, such as before the store is given up.")
    hand_over: bool = Field(
        default=False,
        description="Tell compute services where the bytes are, so that they fetch or clone them by themselves.",
    )
    timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds that one call to the store may take before it has failed."
    )
    attempts: int = Field(
        default=4, ge=1, le=20, description="How often a call that may succeed later is made before it has failed."
    )
    write_bytes_s: int = Field(default=0, ge=0, description="Bytes a second to write at most; 0 is as many as go.")
    read_bytes_s: int = Field(default=0, ge=0, description="Bytes a second to read at most; 0 is as many as go.")
