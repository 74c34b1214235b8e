"""What the signer can be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.signer.checkpointing import CheckpointLimits
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
    require_signature: bool = Field(default=False, description="Refuse images that have no signature.")

    @property
    def checkpoint_limits(self) -> CheckpointLimits:
        """When a checkpoint is due."""
        return CheckpointLimits(self.checkpoint_every, self.checkpoint_interval_s)


class SignerSettings(Settings):
    """All that the signer reads."""

    signer: SignerSection = SignerSection()
