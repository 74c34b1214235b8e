"""What an operator should know of a directory before it is trusted with images, each under a stable name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress

from tintype.adapters.filesystem.directory import StoreDirectory
from tintype.adapters.filesystem.mount_examination import examined_mount
from tintype.adapters.filesystem.permissions import wrong_permissions
from tintype.adapters.filesystem.tree import UNCOMMITTED, Purpose
from tintype.adapters.filesystem.write_lock import is_write_locked, take_write_lock
from tintype.domain.errors import TintypeError
from tintype.ports.image_store import Finding, Grade

_LITTLE = 0.05


async def examined(directory: StoreDirectory) -> Sequence[Finding]:
    """Everything that can be looked at; what fails is a finding, never an error."""
    looks: tuple[tuple[str, Callable[[StoreDirectory], Sequence[Finding]]], ...] = (
        ("access", _access),
        ("permissions", _permissions),
        ("names", _names),
        ("locks", _locks),
        ("room", _room),
        ("mount", examined_mount),
    )
    found: list[Finding] = []
    for name, look in looks:
        try:
            found += await directory.run(lambda look=look: look(directory))  # type: ignore[misc]
        except TintypeError as exc:
            found.append(Finding(name, Grade.BAD, exc.message, exc.hint))
    return found


def _access(directory: StoreDirectory) -> Sequence[Finding]:
    directory.probe()
    return (Finding("access", Grade.GOOD, "a file can be written, put on the disk with fsync, and removed"),)


def _permissions(directory: StoreDirectory) -> Sequence[Finding]:
    wrong = wrong_permissions(directory.tree)
    if wrong:
        return (Finding("permissions", Grade.BAD, wrong[0], wrong[1]),)
    return (Finding("permissions", Grade.GOOD, "the service's user may write there, and not everybody may"),)


def _names(directory: StoreDirectory) -> Sequence[Finding]:
    """What a commit does: link the open file, rename over a name, and have the directory on the disk."""
    first, second = (f".check-{uuid.uuid4().hex}" for _ in range(2))
    with directory.tree.opened_area(UNCOMMITTED, Purpose.COMMIT) as area:
        descriptor = os.open(first, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=area)
        try:
            os.link(f"/proc/self/fd/{descriptor}", second, dst_dir_fd=area, follow_symlinks=True)
            os.rename(second, f"{second}-renamed", src_dir_fd=area, dst_dir_fd=area)
            os.fsync(area)
        except OSError as exc:
            said = f"open files cannot be linked and renamed there: {os.strerror(exc.errno or 0)}"
            return (Finding("names", Grade.BAD, said, "Use a file system with hard links: ext4, xfs, btrfs, NFS."),)
        finally:
            for name in (first, second, f"{second}-renamed"):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=area)
            os.close(descriptor)
    return (Finding("names", Grade.GOOD, "an open file can be linked, and renamed over a name, durably"),)


def _locks(directory: StoreDirectory) -> Sequence[Finding]:
    name = f".check-{uuid.uuid4().hex}"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    with directory.tree.opened_area(UNCOMMITTED, Purpose.COMMIT) as area:
        opened = [os.open(name, flags, 0o600, dir_fd=area) for _ in range(2)]
        try:
            take_write_lock(opened[0])
            is_seen = is_write_locked(opened[1])
        except OSError as exc:
            said = f"files cannot be locked there: {os.strerror(exc.errno or 0)}"
            return (Finding("locks", Grade.BAD, said, "Run lockd on the NFS server, or mount with vers=4."),)
        finally:
            for descriptor in opened:
                os.close(descriptor)
            os.unlink(name, dir_fd=area)
    if not is_seen:
        return (Finding("locks", Grade.BAD, "a lock that is held is not seen", "Use another file system."),)
    return (Finding("locks", Grade.GOOD, "a lock that one process holds is seen by another of this machine"),)


def _room(directory: StoreDirectory) -> Sequence[Finding]:
    with directory.tree.opened_root(Purpose.READ) as root:
        found = os.fstatvfs(root)
    space = directory.room.space()
    said = f"{space.free} of {space.total} bytes are free within the store's limits"
    is_little = space.total > 0 and space.free < _LITTLE * space.total
    room = Finding("room", Grade.DOUBTFUL if is_little else Grade.GOOD, said, "Make room." if is_little else "")
    if not found.f_files:
        return (room, Finding("inodes", Grade.GOOD, "the file system does not count files"))
    few = found.f_favail < _LITTLE * found.f_files
    said = f"{found.f_favail} further files of {found.f_files} can be made"
    return (room, Finding("inodes", Grade.DOUBTFUL if few else Grade.GOOD, said, "Make room." if few else ""))
