"""The tokens that callers may show, from a file that holds their digests.

A token is 32 random bytes or more, so that a digest without salt tells nothing of it. The file is TOML:

    [[tokens]]
    actor = "alice"              # as the log shall tell
    sha256 = "…"                 # of the token, in hex
    projects = ["acme", "lab"]   # for which it is good; the first where a call names none; ["*"] is every one
    admin = false
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from tintype.codec.tokens import ANY_PROJECT, digest_of
from tintype.domain.errors import ConfigurationError, InvalidIdentifierError, UnauthenticatedError
from tintype.domain.values import project_id
from tintype.runtime.bounded_file import read_bounded
from tintype.runtime.reloading import Reloading
from tintype.runtime.settings import Section

MAX_TOKENS = 10_000
MAX_FILE_BYTES = 4 * 1024 * 1024


def _project(text: str) -> str:
    try:
        return text if text == ANY_PROJECT else project_id(text)
    except InvalidIdentifierError as exc:
        raise ValueError(exc.message) from None


class TokenGrant(Section):
    """What a token is good for."""

    actor: str = Field(pattern=r"^[\x21-\x7e]{1,128}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    projects: tuple[Annotated[str, AfterValidator(_project)], ...] = Field(default=("default",), min_length=1)
    admin: bool = False

    def is_for(self, project: str) -> bool:
        """Whether the project may be named with it."""
        return ANY_PROJECT in self.projects or project in self.projects

    @property
    def first_project(self) -> str:
        """The project of calls that name none."""
        return "default" if self.projects[0] == ANY_PROJECT else self.projects[0]


class TokenFile(Section):
    """All of the file."""

    tokens: tuple[TokenGrant, ...] = Field(default=(), max_length=MAX_TOKENS)


class Tokens:
    """The tokens of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigurationError: it cannot be read or is not as it should be; names what is wrong.
        """
        self._grants = Reloading("the tokens", [path], lambda: read_tokens(path))

    def grant(self, token: str) -> TokenGrant:
        """What ``token`` is good for.

        Raises:
            UnauthenticatedError: nothing.
        """
        # Found by its digest: how long that takes tells nothing of the tokens that there are.
        found = self._grants.current().get(digest_of(token))
        if found is None:
            raise UnauthenticatedError("the token is not known")
        return found


def read_tokens(path: Path) -> Mapping[str, TokenGrant]:
    """The file's grants by digest.

    Raises:
        ConfigurationError: it cannot be read, or is not as it should be.
    """
    content = read_bounded(path, MAX_FILE_BYTES, f"auth.tokens_file: {path}")
    try:
        parsed = TokenFile(**tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        # What a TOML parser complains of may be the line with the secret.
        raise ConfigurationError(f"auth.tokens_file: {path} is not TOML") from None
    except ValidationError as exc:
        error = exc.errors(include_input=False)[0]
        where = ".".join(map(str, error["loc"]))
        raise ConfigurationError(f"auth.tokens_file: {path}: {where}: {error['msg']}") from None
    grants = {grant.sha256: grant for grant in parsed.tokens}
    if len(grants) != len(parsed.tokens):
        raise ConfigurationError(f"auth.tokens_file: {path} has one token twice")
    return grants
