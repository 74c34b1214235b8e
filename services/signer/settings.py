"""What the signer can be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from tintype.domain.errors import InvalidIdentifierError
from tintype.domain.values import project_id
from tintype.runtime.settings import CommaSeparated, ServiceSettings, Settings

ALL_PROJECTS = "*"


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

    @field_validator("sign_for")
    @classmethod
    def _are_projects(cls, projects: tuple[str, ...]) -> tuple[str, ...]:
        for project in projects:
            if project != ALL_PROJECTS:
                _require_project(project)
        return projects

    @model_validator(mode="after")
    def _names_a_token_whole(self) -> SignerSection:
        given = (bool(self.pkcs11_module), bool(self.pkcs11_token), bool(self.pkcs11_pin_file))
        if any(given) and not all(given):
            raise ValueError("pkcs11_module, pkcs11_token and pkcs11_pin_file belong together: set all three")
        return self


def _require_project(text: str) -> None:
    try:
        project_id(text)
    except InvalidIdentifierError as exc:
        raise ValueError(f"{text[:80]!r} is not a project id, nor {ALL_PROJECTS}") from exc


class SignerSettings(Settings):
    """All that the signer reads."""

    signer: SignerSection = SignerSection()
