"""How a token looks, and how the services' file of tokens knows it: by its SHA-256 alone."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence

ANY_PROJECT = "*"
_TOKEN_BYTES = 32
_TOKEN_PREFIX = "tintype_"  # so that a leaked one is found by whoever scans for secrets


def new_token() -> str:
    """A token that nobody can guess: a digest of it needs no salt."""
    return _TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def digest_of(token: str) -> str:
    """What stands in the file for it."""
    return hashlib.sha256(token.encode()).hexdigest()


def entry_of(token: str, actor: str, projects: Sequence[str], *, is_admin: bool) -> str:
    """The token's entry in the file, as TOML: whose it is, for which projects it is good."""
    # JSON strings and lists of them are TOML's.
    return (
        f"[[tokens]]\nactor = {json.dumps(actor)}\nsha256 = {json.dumps(digest_of(token))}\n"
        f"projects = {json.dumps(list(projects))}\nadmin = {json.dumps(is_admin)}\n"
    )
