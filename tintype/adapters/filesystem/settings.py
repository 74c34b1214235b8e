"""The table ``[stores.NAME]`` of a store in a directory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tintype.adapters.store_section import StoreSection
from tintype.runtime.settings import CommaSeparated

_PATH_WEIGHT = 100
_FURTHER = re.compile(r"(?P<path>/[^=\0]*)(=(?P<weight>[0-9]{1,4}))?")


class FileStoreSettings(StoreSection):
    """A directory, or an NFS mount."""

    type: Literal["file"] = Field(default="file", description="A directory, or an NFS mount.")
    path: Path = Field(description="The directory.")
    paths: CommaSeparated = Field(
        default=(),
        description="Further directories, each PATH or PATH=WEIGHT; path has weight 100. New images go to the one of "
        "the greatest weight that works and has room.",
    )
    max_bytes: int = Field(
        default=0, ge=0, description="Bytes that all images of one directory may take together; 0 is no limit."
    )
    max_object_bytes: int = Field(default=0, ge=0, description="Bytes of the largest image; 0 is no limit.")
    reserve_bytes: int = Field(
        default=0, ge=0, description="Bytes to leave free in each directory: writes are refused before it is full."
    )
    file_mode: str = Field(
        default="",
        pattern=r"^(0?[0-7]{3})?$",
        description="Octal mode of the files, such as 0640, whatever the umask; empty is 0640 less the umask.",
    )
    require_mount: bool = Field(
        default=False,
        description="The path is a mount, such as NFS, and a share that an operator marked "
        "with `python -m services.importer.mark_share NAME`: "
        "while that very share is not mounted, nothing is written.",
    )
    mount_point: Path | None = Field(
        default=None, description="Where the share must be mounted, if that is known; path is there, or below."
    )
    share_id: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        description="The id that marking the share printed; without it the first share marked as this store's.",
    )
    watch_interval_s: float = Field(
        default=5.0, gt=0, le=3600, description="Seconds between two looks at a mount, and that one may take."
    )

    @field_validator("file_mode")
    @classmethod
    def _is_not_for_everybody(cls, mode: str) -> str:
        if mode and (int(mode, 8) & 0o002 or int(mode, 8) & 0o600 != 0o600):
            raise ValueError("everybody could write, or the service itself could not: take 0600, 0640 or 0644")
        return mode

    @model_validator(mode="after")
    def _further_directories_are_well_formed(self) -> FileStoreSettings:
        for text in self.paths:
            if not _FURTHER.fullmatch(text):
                raise ValueError(f"paths: {text[:80]!r} is neither PATH nor PATH=WEIGHT, with an absolute PATH")
        if len({path for path, _ in self.directories}) != len(self.directories):
            raise ValueError("paths: a directory is named twice")
        if self.require_mount and self.paths:
            raise ValueError("paths: a store with require_mount has one directory; give each share a store of its own")
        return self

    @property
    def directories(self) -> Sequence[tuple[Path, int]]:
        """Each directory and its weight."""
        further = [found for text in self.paths if (found := _FURTHER.fullmatch(text))]
        return [
            (self.path, _PATH_WEIGHT),
            *((Path(one["path"]), int(one["weight"] or _PATH_WEIGHT)) for one in further),
        ]
