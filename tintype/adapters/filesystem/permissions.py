"""Who may write into a directory of a store, looked at when it is opened: too many, or not the service itself.

What is wrong is told in one line, with the command that mends it. All of this blocks.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from tintype.adapters.filesystem.tree import COMMITTED, UNCOMMITTED, Purpose, Tree
from tintype.domain.errors import ConfigurationError


def require_permissions(store: str, tree: Tree) -> None:
    """Look at the root and at both areas.

    Raises:
        ConfigurationError: everybody may write there, or the service's user may not; the message has the command.
        OSError, StoreUnavailableError: it cannot be looked at.
    """
    wrong = wrong_permissions(tree)
    if wrong:
        raise ConfigurationError(f"stores.{store}: {wrong[0]}: {wrong[1]}")


def wrong_permissions(tree: Tree) -> tuple[str, str] | None:
    """What is wrong, and the command that mends it; ``None`` where all is well."""
    with tree.opened_root(Purpose.READ) as root:
        for name in (".", UNCOMMITTED, COMMITTED):
            with suppress(FileNotFoundError):
                found = _wrong(tree.root if name == "." else tree.root / name, name, root)
                if found:
                    return found
    return None


def _wrong(path: Path, name: str, root: int) -> tuple[str, str] | None:
    state = os.stat(name, dir_fd=root, follow_symlinks=False)
    mode, quoted = stat.S_IMODE(state.st_mode), shlex.quote(str(path))
    if mode & stat.S_IWOTH:
        return f"{path} has mode {mode:04o}, so that everybody may write to it", f"chmod o-w {quoted}"
    needed = os.R_OK | os.X_OK | (0 if name == "." else os.W_OK)
    if not os.access(name, needed, dir_fd=root, effective_ids=os.access in os.supports_effective_ids):
        with suppress(OSError):
            if needed & os.W_OK and os.fstatvfs(root).f_flag & os.ST_RDONLY:
                return None  # not a matter of permissions
        who = user_name(os.geteuid())
        return (
            f"{path} belongs to {user_name(state.st_uid)} with mode {mode:04o}, so that {who} may not use it",
            f"chown -R {who} {quoted}",
        )
    return None


def user_name(uid: int) -> str:
    """The name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
