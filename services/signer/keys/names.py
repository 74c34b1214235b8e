"""How the service's keys are named."""

from __future__ import annotations

import secrets
from datetime import datetime


def new_key_id(now: datetime) -> str:
    """An id that nobody else chooses, and that people can order: ``tintype-20261127-1a2b3c4d``."""
    return f"tintype-{now:%Y%m%d}-{secrets.token_hex(4)}"
