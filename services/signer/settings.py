"""What the signer can be told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from services.signer.barbican_settings import BarbicanSection
from services.signer.checkpointing import CheckpointLimits
from tintype.domain.errors import InvalidIdentifierError, TintypeError
from tintype.domain.values import project_id
from tintype.runtime.settings import CommaSeparated, Section, ServiceSettings, Settings
from tintype.trust.chains import DEFAULT_CHAIN_LENGTH, MAX_CHAIN_LENGTH
from tintype.trust.policy import SignaturePolicy, parse_fingerprint

ALL_PROJECTS = "*"
MAX_CLOCK_SKEW_S = 3600.0

T = TypeVar("T")


def _fingerprints(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(parse_fingerprint(text) for text in texts)
    except TintypeError as exc:
        raise ValueError(exc.message) from None


Fingerprints = Annotated[CommaSeparated, AfterValidator(_fingerprints)]
"""SHA-256 fingerprints of certificates; colons are left out."""


class ProjectSection(Section):
    """The table ``[signer.projects.NAME]``: what one project's policy has instead of the site's."""

    require_signature: bool | None = Field(
        default=None, description="Refuse images of this project that have no signature."
    )
    trusted_roots_dir: Path | None = Field(
        default=None, description="Trusted roots for this project, instead of the site's."
    )
    allowed_signers: Fingerprints | None = Field(
        default=None, description="Who may sign this project's images, instead of the site's list; empty is everybody."
    )
    max_certificate_age_days: int | None = Field(
        default=None, ge=1, le=36500, description="Days since a certificate was issued, for this project."
    )
    clock_skew_s: float | None = Field(
        default=None, ge=0, le=MAX_CLOCK_SKEW_S, description="Seconds by which clocks may differ, for this project."
    )
    max_chain_length: int | None = Field(
        default=None, ge=1, le=MAX_CHAIN_LENGTH, description="Certificates in a chain, for this project."
    )


class SignerSection(ServiceSettings):
    """The table ``[signer]``."""

    certificate_dir: Path | None = Field(
        default=None,
        description="Directory of publishers' certificates in PEM; a file's name without its suffix is the id.",
    )
    key_dir: Path | None = Field(
        default=None,
        description="Directory of the service's own keys, which it signs attestations with; a first one is made there.",
    )
    checkpoint_every: int = Field(
        default=1000,
        ge=0,
        le=2**31,
        description="A signed checkpoint of the log is published after so many events; 0 is never.",
    )
    checkpoint_interval_s: float = Field(
        default=300.0,
        ge=1,
        le=7 * 24 * 3600,
        description="Seconds after which an event is covered by a checkpoint, however few have come.",
    )
    pkcs11_module: Path | None = Field(
        default=None,
        description="The PKCS #11 module (.so) of the token that the service's own keys lie in, instead of key_dir.",
    )
    pkcs11_token: str = Field(default="", description="The label of that token.")
    pkcs11_pin_file: Path | None = Field(
        default=None, description="File with the token's PIN in one line, which nobody else may read."
    )
    pkcs11_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Seconds that the token may take to answer."
    )
    sign_for: CommaSeparated = Field(
        default=(),
        description="Projects whose images the service signs when it is asked to (SignDigest); * is every project.",
    )
    require_signature: bool = Field(default=False, description="Refuse images that have no signature.")
    trusted_roots_dir: Path | None = Field(
        default=None,
        description="Directory of trusted roots and revocation lists in PEM: a signer's certificate must lead to one "
        "of the roots. Unset, the certificates in certificate_dir are trusted as they are.",
    )
    allowed_signers: Fingerprints = Field(
        default=(),
        description="SHA-256 fingerprints of the certificates that may sign images, with or without colons; empty is "
        "all that are trusted. The service's own keys have to be listed too.",
    )
    max_certificate_age_days: int | None = Field(
        default=None,
        ge=1,
        le=36500,
        description="Refuse signers whose certificate was issued longer ago than these days.",
    )
    clock_skew_s: float = Field(
        default=0.0,
        ge=0,
        le=MAX_CLOCK_SKEW_S,
        description="Seconds by which certificates and revocation lists count before they begin and after they end.",
    )
    max_chain_length: int = Field(
        default=DEFAULT_CHAIN_LENGTH,
        ge=1,
        le=MAX_CHAIN_LENGTH,
        description="Certificates in a chain at most, the signer's and the root included.",
    )
    barbican: BarbicanSection = BarbicanSection()
    projects: Mapping[str, ProjectSection] = Field(default_factory=dict)

    @field_validator("sign_for")
    @classmethod
    def _are_projects(cls, projects: tuple[str, ...]) -> tuple[str, ...]:
        for project in projects:
            if project != ALL_PROJECTS:
                _require_project(project)
        return projects

    @field_validator("projects")
    @classmethod
    def _are_named_by_projects(cls, projects: Mapping[str, ProjectSection]) -> Mapping[str, ProjectSection]:
        for name in projects:
            _require_project(name)
        return projects

    @model_validator(mode="after")
    def _names_a_token_whole(self) -> SignerSection:
        given = (bool(self.pkcs11_module), bool(self.pkcs11_token), bool(self.pkcs11_pin_file))
        if any(given) and not all(given):
            raise ValueError("pkcs11_module, pkcs11_token and pkcs11_pin_file belong together: set all three")
        return self

    @model_validator(mode="after")
    def _trusts_nobody_for_being_in_barbican(self) -> SignerSection:
        # Whoever may store a secret in some project of Barbican can share it with the signer.
        if self.barbican.is_set and self.trusted_roots_dir is None:
            raise ValueError("trusted_roots_dir is missing: a certificate is not trusted for being in Barbican")
        return self

    def roots_dir(self, project: str) -> Path | None:
        """Where a project's trusted roots are."""
        own = self.projects.get(project)
        return own.trusted_roots_dir if own and own.trusted_roots_dir else self.trusted_roots_dir

    def policy(self, project: str) -> SignaturePolicy:
        """What a project asks of signatures."""
        own = self.projects.get(project) or ProjectSection()
        return SignaturePolicy(
            require_signature=_first(own.require_signature, self.require_signature),
            requires_chain=self.roots_dir(project) is not None,
            allowed_signers=frozenset(_first(own.allowed_signers, self.allowed_signers)),
            max_certificate_age_days=_first(own.max_certificate_age_days, self.max_certificate_age_days),
            clock_skew_s=_first(own.clock_skew_s, self.clock_skew_s),
            max_chain_length=_first(own.max_chain_length, self.max_chain_length),
        )

    @property
    def checkpoint_limits(self) -> CheckpointLimits:
        """When a checkpoint is due."""
        return CheckpointLimits(self.checkpoint_every, self.checkpoint_interval_s)


class SignerSettings(Settings):
    """All that the signer reads."""

    signer: SignerSection = SignerSection()


def _require_project(text: str) -> None:
    try:
        project_id(text)
    except InvalidIdentifierError as exc:
        raise ValueError(f"{text[:80]!r} is not a project id") from exc


def _first(own: T | None, general: T) -> T:
    return general if own is None else own
