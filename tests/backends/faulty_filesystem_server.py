"""A file system that passes everything on to a directory, and does what its rules say: ``SOURCE MOUNT RULES``.

RULES is a JSON file, read again when it changes: a list of which the first that fits an operation counts. ``op`` is a
method's name or ``*``, ``path`` a regular expression; ``errno`` is answered, ``flip`` changes a bit of what is read,
``short`` writes half, ``free`` is what statvfs claims.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import mfusepy

_STAT = ("st_gid", "st_mode", "st_nlink", "st_size", "st_uid", "st_ino", "st_blocks")
_STATFS = (
    "f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_flag", "f_frsize", "f_namemax"
)  # fmt: skip


class FaultyFilesystem(mfusepy.Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self, source: Path, rules: Path) -> None:
        self._source = str(source)
        self._rules = rules

    def _at(self, path: str) -> str:
        return self._source + path

    def _rule(self, op: str, path: str) -> dict[str, Any]:
        for rule in json.loads(self._rules.read_text()):
            if rule["op"] in (op, "*") and re.search(rule.get("path", ""), path):
                if "errno" in rule:
                    raise mfusepy.FuseOSError(getattr(errno, rule["errno"]))
                found: dict[str, Any] = rule
                return found
        return {}

    def access(self, path: str, mode: int) -> None:
        self._rule("access", path)
        if not os.access(self._at(path), mode):
            raise mfusepy.FuseOSError(errno.EACCES)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        self._rule("getattr", path)
        return self._state(path)

    def _state(self, path: str) -> dict[str, Any]:
        state = os.lstat(self._at(path))
        found = {name: getattr(state, name) for name in _STAT}
        return found | {"st_atime": state.st_atime_ns, "st_mtime": state.st_mtime_ns, "st_ctime": state.st_ctime_ns}

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, Any], int]]:
        self._rule("readdir", path)
        # With their numbers: an entry of number 0 counts as removed.
        return [(name, self._state(f"{path}/{name}"), 0) for name in (".", "..", *os.listdir(self._at(path)))]

    def mkdir(self, path: str, mode: int) -> None:
        self._rule("mkdir", path)
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        self._rule("rmdir", path)
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        self._rule("unlink", path)
        os.unlink(self._at(path))

    def chmod(self, path: str, mode: int) -> None:
        self._rule("chmod", path)
        os.chmod(self._at(path), mode)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        self._rule("rename", old)
        os.rename(self._at(old), self._at(new))

    def link(self, target: str, source: str) -> None:
        self._rule("link", target)
        os.link(self._at(source), self._at(target))

    def open(self, path: str, flags: int) -> int:
        self._rule("open", path)
        return os.open(self._at(path), flags & ~os.O_CREAT)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._rule("create", path)
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        rule = self._rule("read", path)
        data = os.pread(fh, size, offset)
        return data[:-1] + bytes([data[-1] ^ 1]) if rule.get("flip") and data else data

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        rule = self._rule("write", path)
        return os.pwrite(fh, data[: max(1, len(data) // 2)] if rule.get("short") else data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        self._rule("truncate", path)
        os.truncate(self._at(path), length)

    def flush(self, path: str, fh: int) -> int:
        self._rule("flush", path)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._rule("fsync", path)
        os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def utimens(self, path: str, times: Any = None) -> None:
        os.utime(self._at(path), ns=times)

    def statfs(self, path: str) -> dict[str, int]:
        rule = self._rule("statfs", path)
        state = os.statvfs(self._at(path))
        found = {name: getattr(state, name) for name in _STATFS}
        if "free" in rule:
            found["f_bavail"] = found["f_bfree"] = rule["free"] // found["f_frsize"]
        return found


if __name__ == "__main__":
    mfusepy.FUSE(
        FaultyFilesystem(Path(sys.argv[1]), Path(sys.argv[3])),
        sys.argv[2],
        foreground=True,
        nothreads=False,
        use_ino=True,  # two names of one file have one number, as on a server
        attr_timeout=0,
        entry_timeout=0,
        fsname="share",
    )
