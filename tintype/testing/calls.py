"""Calls of servicers without a server around them."""

from __future__ import annotations

from typing import Any

from tintype.domain.access import Caller
from tintype.domain.values import ProjectId
from tintype.runtime.auth import set_current_caller


def call_by(project: str = "default", actor: str = "tester", *, is_admin: bool = False) -> Any:
    """The context of a call by that caller, who is the current one from now on; there is nothing else to it."""
    set_current_caller(Caller(ProjectId(project), actor, is_admin))
    return object()
