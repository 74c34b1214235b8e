"""How the service's keys are named."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime

from tintype.domain.errors import InvalidIdentifierError
from tintype.domain.values import CERTIFICATE_ID

GENERATED_ID = re.compile(r"tintype-(?:[0-9]{8}-[0-9a-f]{8}|[0-9a-f]{16})")
"""Ids of keys that the service has made; operators name their own otherwise."""


def new_key_id(now: datetime) -> str:
    """An id that nobody else chooses, and that people can order: ``tintype-20261127-1a2b3c4d``."""
    return f"tintype-{now:%Y%m%d}-{secrets.token_hex(4)}"


def requested_key_id(request_id: str) -> str:
    """The id of the key that a request to rotate makes; the same for the same request, whenever it is repeated."""
    return f"tintype-{hashlib.sha256(request_id.encode()).hexdigest()[:16]}"


def checked_key_id(key_id: str) -> str:
    """``key_id``, if it may be one: it becomes a file's name, and a certificate's id.

    Raises:
        InvalidIdentifierError: it is malformed.
    """
    if not CERTIFICATE_ID.fullmatch(key_id):
        raise InvalidIdentifierError(
            f"{key_id[:80]!r} is not a key id: use letters, digits, hyphens, underscores and dots"
        )
    return key_id
