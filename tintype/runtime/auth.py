"""Who is calling.

With a file of tokens a caller is who its token says, for the projects that it is good for. Without one the project and
the actor are what the client says; for that reason a service then listens on loopback only, unless its operator has
taken the risk in so many words (see ``unsafe_plaintext``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import grpc

from tintype.codec.call_metadata import ACTOR_KEY, ADMIN_KEY, PROJECT_KEY, TOKEN_KEY
from tintype.domain.access import Caller
from tintype.domain.errors import (
    InternalError,
    InvalidIdentifierError,
    NotPermittedError,
    ProjectNotPermittedError,
    UnauthenticatedError,
    UnavailableError,
)
from tintype.domain.values import ProjectId, project_id
from tintype.runtime.interception import Around
from tintype.runtime.settings import AuthSettings
from tintype.runtime.tokens import Tokens

Metadata = Iterable[tuple[str, str | bytes]]
Authenticate = Callable[[Metadata], Caller]
"""Tells the caller by a call's metadata, or raises a ``NotPermittedError`` or an ``InvalidIdentifierError``."""

OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check"})
"""What may be asked by anybody: an orchestrator has no token. (``Watch`` would hold a place for ever.)"""

MAX_OPEN_CALLS = 64
"""How many of these are answered at once: all others of a service's places are for those who are known."""

_MAX_TOKEN_CHARACTERS = 512
_SCHEME = "bearer "
_ACTOR = re.compile(r"[\x20-\x7e]{1,128}")
_CALLER: ContextVar[Caller] = ContextVar("caller")


def authentication(settings: AuthSettings) -> Authenticate:
    """How this service knows its callers.

    Raises:
        ConfigurationError: the file of tokens cannot be used.
    """
    if settings.tokens_file is None:
        return claimed_caller
    tokens = Tokens(settings.tokens_file)
    return lambda metadata: proven_caller(tokens, metadata)


def around_callers(authenticate: Authenticate) -> Around:
    """Finds out before a call who makes it; nothing of it runs for whoever is not known."""
    places = asyncio.Semaphore(MAX_OPEN_CALLS)

    @asynccontextmanager
    async def around(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        if method not in OPEN_METHODS:
            set_current_caller(authenticate(context.invocation_metadata() or ()))
            yield
        elif places.locked():
            raise UnavailableError("too many ask at once who have not said who they are")
        else:
            async with places:
                yield

    return around


def set_current_caller(caller: Caller) -> None:
    """Say who makes the call that this task answers."""
    _CALLER.set(caller)


def current_caller() -> Caller:
    """Who makes the call that is being answered.

    Raises:
        InternalError: no call is.
    """
    caller = _CALLER.get(None)
    if caller is None:
        raise InternalError("nobody asked who calls")
    return caller


def claimed_caller(metadata: Metadata) -> Caller:
    """The caller that the call's metadata names.

    Raises:
        InvalidIdentifierError: the project or the actor is malformed.
    """
    values = _texts(metadata)
    actor = values.get(ACTOR_KEY, "anonymous")
    if not _ACTOR.fullmatch(actor):
        raise InvalidIdentifierError("the actor must have 1 to 128 printable ASCII characters")
    project = project_id(values.get(PROJECT_KEY, "default"))
    return Caller(ProjectId(project), actor, is_admin=_asks_as_admin(values))


def proven_caller(tokens: Tokens, metadata: Metadata) -> Caller:
    """The caller whose token the call shows, for the project that it names.

    Raises:
        UnauthenticatedError: it shows none that is known.
        ProjectNotPermittedError, NotPermittedError: it asks for more than the token is good for.
        InvalidIdentifierError: the project is malformed.
    """
    values = _texts(metadata)
    shown = values.get(TOKEN_KEY, "")
    if shown[: len(_SCHEME)].lower() != _SCHEME or len(shown) > _MAX_TOKEN_CHARACTERS:
        raise UnauthenticatedError("the call shows no token")
    grant = tokens.grant(shown[len(_SCHEME) :].strip())
    project = project_id(values.get(PROJECT_KEY, grant.first_project))
    if not grant.is_for(project):
        raise ProjectNotPermittedError(f"the token of {grant.actor} is not for project {project}")
    wants_admin = _asks_as_admin(values)
    if wants_admin and not grant.admin:
        raise NotPermittedError(f"the token of {grant.actor} is not an administrator's")
    return Caller(ProjectId(project), grant.actor, is_admin=wants_admin)


def _asks_as_admin(values: Mapping[str, str]) -> bool:
    return values.get(ADMIN_KEY) == "true"


def _texts(metadata: Metadata) -> Mapping[str, str]:
    return {key: value for key, value in metadata if isinstance(value, str)}
