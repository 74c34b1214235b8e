"""Who is calling.

Callers are not authenticated yet: the project and the actor are what the client says. For that reason a service
listens on loopback only, unless its operator has taken the risk in so many words (see ``unsafe_plaintext``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tintype.codec.call_metadata import ACTOR_KEY, ADMIN_KEY, PROJECT_KEY
from tintype.domain.access import Caller
from tintype.domain.errors import InvalidIdentifierError
from tintype.domain.values import ProjectId, project_id

_ACTOR = re.compile(r"[\x20-\x7e]{1,128}")


def caller_of(metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    """The caller that the call's metadata names.

    Raises:
        InvalidIdentifierError: the project or the actor is malformed.
    """
    values = {key: value for key, value in metadata if isinstance(value, str)}
    actor = values.get(ACTOR_KEY, "anonymous")
    if not _ACTOR.fullmatch(actor):
        raise InvalidIdentifierError("the actor must have 1 to 128 printable ASCII characters")
    project = project_id(values.get(PROJECT_KEY, "default"))
    return Caller(ProjectId(project), actor, is_admin=values.get(ADMIN_KEY) == "true")
