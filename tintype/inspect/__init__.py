"""What a disk image is, from its bytes alone: detection, safety and facts, in one pass and in bounded memory."""

from __future__ import annotations

from tintype.inspect.inspection import Inspection, encryption_of
from tintype.inspect.inspector import Inspector

__all__ = ["Inspection", "Inspector", "encryption_of"]
