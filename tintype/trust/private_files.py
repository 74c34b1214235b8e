"""Reading what nobody else may read: private keys, and the PINs and passphrases that open them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from tintype.domain.errors import KeyPermissionsError, KeyUnreadableError

MAX_PRIVATE_BYTES = 64 * 1024
MAX_SECRET_CHARACTERS = 1024

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_private(path: Path) -> bytes:
    """The content of a small file that belongs to this user, or to root, and that nobody else may read or write.

    A link is followed; what is judged is the file that is read, and not what stood there before.

    Raises:
        KeyPermissionsError: others may read or replace it, or it is no plain file.
        KeyUnreadableError: it is too large.
        OSError: it cannot be opened or read.
    """
    return _read(path, MAX_PRIVATE_BYTES, require_private)


def read_own(path: Path, max_bytes: int) -> bytes:
    """The content of a small file that this user, or root, owns, and that nobody else may write to.

    Raises:
        KeyPermissionsError: others may write to it or replace it, or it is no plain file.
        KeyUnreadableError: it is too large.
        OSError: it cannot be opened or read.
    """
    return _read(path, max_bytes, require_own_file)


def read_secret(path: Path) -> str:
    """A PIN or a passphrase: the first line of a private file.

    Raises:
        KeyPermissionsError, OSError: as :func:`read_private`.
        KeyUnreadableError: it is empty, too long, or not text.
    """
    try:
        lines = read_private(path).decode().splitlines()
    except UnicodeDecodeError:
        raise KeyUnreadableError(f"{path} is not text in UTF-8") from None  # the cause would show what is in it
    if len(lines) != 1 or not 0 < len(lines[0]) <= MAX_SECRET_CHARACTERS:
        raise KeyUnreadableError(f"{path} must have one line of at most {MAX_SECRET_CHARACTERS} characters")
    return lines[0]


def require_private(found: os.stat_result, path: Path) -> None:
    """Check that a file is plain, and its owner's alone.

    Raises:
        KeyPermissionsError: it is not.
    """
    require_own_file(found, path)
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        raise KeyPermissionsError(f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: others may read it")


def require_own_file(found: os.stat_result, path: Path) -> None:
    """Check that a file is plain, and that nobody else may write to it.

    Raises:
        KeyPermissionsError: it is not, or somebody may.
    """
    if not stat.S_ISREG(found.st_mode):
        raise KeyPermissionsError(f"{path} is not a plain file")
    _require_own(found, path)


def require_own_directory(found: os.stat_result, path: Path) -> None:
    """Check that nobody else can put files into a directory, or replace those in it.

    Raises:
        KeyPermissionsError: somebody can.
    """
    if not stat.S_ISDIR(found.st_mode):
        raise KeyPermissionsError(f"{path} is not a directory")
    _require_own(found, path)


def _require_own(found: os.stat_result, path: Path) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise KeyPermissionsError(f"{path} belongs to another user, who can replace it")
    if stat.S_IMODE(found.st_mode) & _OTHERS_MAY_WRITE:
        raise KeyPermissionsError(f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: others may write to it")


def _read(path: Path, max_bytes: int, require: Callable[[os.stat_result, Path], None]) -> bytes:
    # O_NONBLOCK: a FIFO must not hold the thread.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        require(os.fstat(descriptor), path)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise KeyUnreadableError(f"{path} is larger than {max_bytes} bytes")
    return content
