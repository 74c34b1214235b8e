"""What the importer can be told."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from services.importer.background_scrub import ScrubLimits
from services.importer.expectations import SitePolicy
from services.importer.locations import LocationRules
from services.importer.plugins import ImportPlugins, checked_injection
from services.importer.sources.addresses import AddressRules
from services.importer.sources.connection import WebLimits
from services.importer.sweep import SweepLimits
from services.importer.uploads import UploadLimits
from tintype.adapters.store_settings import StoreUserSettings
from tintype.domain.errors import ConfigurationError, InvalidIdentifierError
from tintype.domain.values import DIGEST_ALGORITHMS, STRONG_DIGESTS, PropertyValue, project_id
from tintype.runtime.settings import CommaSeparated, ServiceSettings


def _split_ports(value: object) -> object:
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    return tuple(str(part).strip() for part in parts) if isinstance(parts, list | tuple) else parts


def _split_properties(value: object) -> object:
    """The environment has no tables: ``KEY=VALUE,KEY=VALUE`` there."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("must be KEY=VALUE,KEY=VALUE")
    return {key.strip(): text.strip() for key, _, text in pairs}


Properties = Annotated[dict[str, bool | int | str], BeforeValidator(_split_properties)]
Ports = Annotated[tuple[str, ...], BeforeValidator(_split_ports)]


class ImporterSection(ServiceSettings):
    """The table ``[importer]``."""

    hash_algorithm: str = Field(default="sha256", description="The digest that is taken of every image's bytes.")
    max_image_bytes: int = Field(
        default=1024**4, ge=1, le=2**60, description="The most bytes that one image may have, as they come in."
    )
    max_virtual_bytes: int = Field(
        default=16 * 1024**4, ge=1, le=2**62, description="The largest guest disk that is let in, in bytes."
    )
    max_allocation_ratio: int = Field(
        default=1_000_000,
        ge=1,
        le=2**62,
        description="How many times larger than its file a guest disk of over 1 TiB may be.",
    )
    decompression: bool = Field(
        default=True, description="Decompress images that are imported as gzip, zip, xz, zstd or bz2."
    )
    conversion: bool = Field(
        default=True, description="Let the converter convert what is imported, where it is told a format to prefer."
    )
    introspection: bool = Field(
        default=True, description="Keep what imported images say about themselves, as their facts."
    )
    injected_properties: Properties = Field(
        default={},
        description="Properties that are added to every image that is imported; KEY=VALUE,... in the environment.",
    )
    injection_exempts_admins: bool = Field(
        default=True, description="Add injected_properties to nothing that an administrator imports."
    )
    allowed_hosts: CommaSeparated = Field(
        default=(), description="Hosts, addresses and networks that web download may reach though they are not public."
    )
    allowed_ports: Ports = Field(
        default=(), description="Ports that web download may reach on public hosts, besides 80, 443."
    )
    source_attempts: int = Field(
        default=3, ge=1, le=20, description="How often a download is begun or gone on with, before the step fails."
    )
    source_connect_timeout_s: float = Field(
        default=15.0, gt=0, le=600, description="Seconds to wait for a host's name, and for its connection."
    )
    source_stall_timeout_s: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds in which a download has to bring 64 KiB more."
    )
    source_total_timeout_s: float = Field(
        default=24 * 3600.0, gt=0, le=30 * 24 * 3600, description="Seconds that one download may take in all."
    )
    upload_ttl_s: float = Field(
        default=24 * 3600.0, ge=1, description="Seconds without a byte after which an unfinished upload is swept."
    )
    upload_idle_s: float = Field(
        default=3.0,
        ge=0.1,
        description="Seconds for which an interrupted upload is held; then another importer can go on with it.",
    )
    upload_stall_timeout_s: float = Field(
        default=300.0, gt=0, le=3600, description="Seconds in which an upload's stream has to bring 64 KiB more."
    )
    max_uploads: int = Field(default=64, ge=1, le=4096, description="Uploads that this process takes at once.")
    sweep_interval_s: float = Field(
        default=600.0, ge=0.1, description="Seconds between two searches for unwanted bytes."
    )
    sweep_after_s: float = Field(
        default=24 * 3600.0,
        ge=1,
        description="Age in seconds of bytes of no known image, from which on they are removed.",
    )

    locations_for: CommaSeparated = Field(
        default=(),
        description="Projects of compute services that are told where images are, besides administrators.",
    )
    locations_expire_s: int = Field(
        default=3600, ge=1, le=7 * 24 * 3600, description="Seconds that a location which expires works at most."
    )

    scrub_rate_bytes_s: int = Field(
        default=8 * 1024**2,
        ge=0,
        le=2**40,
        description="Bytes a second at which stored images are read again in the background; 0 is not at all.",
    )
    scrub_interval_s: float = Field(
        default=7 * 24 * 3600.0, ge=1, description="Seconds of rest once all images have been read again."
    )

    @field_validator("hash_algorithm")
    @classmethod
    def _is_known(cls, name: str) -> str:
        known = [algorithm for algorithm in DIGEST_ALGORITHMS if algorithm in STRONG_DIGESTS]
        if name not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return name

    @field_validator("injected_properties")
    @classmethod
    def _are_properties(cls, properties: dict[str, PropertyValue]) -> dict[str, PropertyValue]:
        try:
            return dict(checked_injection(properties))
        except ConfigurationError as exc:
            raise ValueError(exc.message) from None

    @field_validator("locations_for")
    @classmethod
    def _are_projects(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(project_id(entry) for entry in entries)
        except InvalidIdentifierError as exc:
            raise ValueError(exc.message) from None

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        try:
            AddressRules(entries, ())
        except ConfigurationError as exc:
            raise ValueError(exc.message) from None
        return entries

    @field_validator("allowed_ports")
    @classmethod
    def _are_ports(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if not re.fullmatch(r"[0-9]{1,5}", entry, re.ASCII) or not 1 <= int(entry) <= 65535:
                raise ValueError(f"{entry[:80]!r} is no port")
        return entries

    @property
    def rules(self) -> AddressRules:
        """Where web downloads may go."""
        return AddressRules(self.allowed_hosts, [int(port) for port in self.allowed_ports])

    @property
    def policy(self) -> SitePolicy:
        """What every image has to be like."""
        return SitePolicy(
            self.hash_algorithm,
            self.max_image_bytes,
            self.max_virtual_bytes,
            self.max_allocation_ratio,
            self.plugins,
        )

    @property
    def plugins(self) -> ImportPlugins:
        """What is done with imports."""
        return ImportPlugins(
            decompression=self.decompression,
            conversion=self.conversion,
            introspection=self.introspection,
            injected=self.injected_properties,
            exempts_admins=self.injection_exempts_admins,
        )

    @property
    def web_limits(self) -> WebLimits:
        """How patient web downloads are."""
        return WebLimits(
            connect_timeout_s=self.source_connect_timeout_s,
            stall_timeout_s=self.source_stall_timeout_s,
            total_timeout_s=self.source_total_timeout_s,
            attempts=self.source_attempts,
        )

    @property
    def upload_limits(self) -> UploadLimits:
        """How long uploads may rest, and how many there may be."""
        return UploadLimits(self.upload_idle_s, self.max_uploads, self.upload_stall_timeout_s)

    @property
    def location_rules(self) -> LocationRules:
        """Who is told where images are, and for how long."""
        return LocationRules(frozenset(self.locations_for), self.locations_expire_s)

    @property
    def scrub_limits(self) -> ScrubLimits:
        """How fast and how often stored images are read again."""
        return ScrubLimits(self.scrub_rate_bytes_s, self.scrub_interval_s)

    @property
    def sweep_limits(self) -> SweepLimits:
        """When bytes are old enough to be removed."""
        return SweepLimits(self.upload_ttl_s, self.sweep_after_s, self.sweep_interval_s)


class ImporterSettings(StoreUserSettings):
    """All that the importer reads."""

    importer: ImporterSection = ImporterSection()
