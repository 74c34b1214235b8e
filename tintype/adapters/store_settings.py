"""The tables ``[stores.NAME]``: one model for each kind of store, and the settings of services that use stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator

from tintype.adapters.cinder.settings import CinderStoreSettings
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.rbd.settings import RbdStoreSettings
from tintype.adapters.s3.settings import S3StoreSettings
from tintype.adapters.swift.settings import SwiftStoreSettings
from tintype.domain.values import MAX_STORES, STORE_NAME
from tintype.runtime.settings import KIND_TAG, Settings


def _kind(value: Any) -> str:
    kind = value.get("type", "file") if isinstance(value, Mapping) else getattr(value, "type", "")
    return f"{KIND_TAG}{kind}"


StoreSettings = Annotated[
    Annotated[FileStoreSettings, Tag("type=file")]
    | Annotated[S3StoreSettings, Tag("type=s3")]
    | Annotated[SwiftStoreSettings, Tag("type=swift")]
    | Annotated[RbdStoreSettings, Tag("type=rbd")]
    | Annotated[CinderStoreSettings, Tag("type=cinder")],
    Discriminator(
        _kind,
        custom_error_type="store_kind",
        custom_error_message="type must be file, s3, swift, rbd or cinder",
    ),
]
"""One table ``[stores.NAME]``; its ``type`` says which."""


class StoreUserSettings(Settings):
    """For services that read or write the bytes of images."""

    stores: Mapping[str, StoreSettings] = Field(default_factory=dict)

    @field_validator("stores")
    @classmethod
    def _are_named_well_with_one_default(cls, stores: Mapping[str, StoreSettings]) -> Mapping[str, StoreSettings]:
        for name in stores:
            if not STORE_NAME.fullmatch(name):
                raise ValueError(f"store name {name[:80]!r} must be 1 to 63 lower-case letters, digits or hyphens")
        if len(stores) > MAX_STORES:
            raise ValueError(f"{len(stores)} stores are set, and there can be {MAX_STORES}")
        if not stores:
            raise ValueError("no store is set: add a table [stores.NAME] with a path")
        if len(stores) > 1 and sum(store.default for store in stores.values()) != 1:
            raise ValueError("of several stores, exactly one must have default = true")
        return stores

    @property
    def default_store(self) -> str:
        """The name of the store that new images go to."""
        return next((name for name, store in self.stores.items() if store.default), next(iter(self.stores)))
