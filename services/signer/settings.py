"""What the signer can be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tintype.runtime.settings import ServiceSettings, Settings


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
    require_signature: bool = Field(default=False, description="Refuse images that have no signature.")


class SignerSettings(Settings):
    """All that the signer reads."""

    signer: SignerSection = SignerSection()
