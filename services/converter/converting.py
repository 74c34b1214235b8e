"""How conversions are done in one deployment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.converter.plan import Preference
from tintype.runtime.jail import JailLimits, Sandbox


@dataclass(frozen=True, slots=True)
class Converting:
    """What the deployment prefers, and what its tools may use up.

    ``sandbox`` is ``None`` where no tool is ever run; ``qemu_version`` where qemu-img is not.
    """

    preference: Preference
    limits: JailLimits
    scratch_dir: Path
    sandbox: Sandbox | None
    qemu_version: str | None
