"""The catalog's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tintype.runtime.settings import ServiceSettings, Settings


class CatalogSection(ServiceSettings):
    """The section ``[catalog]``."""

    data_dir: Path = Field(
        default=Path("tintype-data"), description="The directory of the database, where it is SQLite."
    )
    database_url: str = Field(
        default="",
        description="Where the tables are: sqlite:////PATH or postgresql://…; empty is catalog.db in data_dir.",
        repr=False,  # it may hold a password
    )
    max_image_bytes: int = Field(
        default=1024**4, ge=1, le=2**62, description="Imports that announce more bytes are refused at once."
    )

    delete_delay_s: float = Field(
        default=0.0,
        ge=0,
        le=90 * 24 * 3600,
        description="Seconds in which a deleted image can be restored, and keeps its bytes; 0 removes them at once.",
    )

    @field_validator("database_url")
    @classmethod
    def _is_of_a_known_database(cls, url: str) -> str:
        if url and not url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return url

    @property
    def database(self) -> str:
        """The URL to use."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'catalog.db').absolute()}"


class NamedStore(BaseModel):
    """A table ``[stores.NAME]``, of which the catalog looks at the name alone: the rest may hold secrets."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class CatalogSettings(Settings):
    """All sections that the catalog reads."""

    catalog: CatalogSection = CatalogSection()
    stores: Mapping[str, NamedStore] = Field(default_factory=dict)

    @property
    def store_names(self) -> frozenset[str] | None:
        """The deployment's stores, whose names users may give; ``None`` where the catalog is not told."""
        return frozenset(self.stores) or None
