"""A raw ext4 disk from the layers of a docker or OCI archive: what a microVM may boot from.

The layers are merged in memory (:mod:`tintype.disks.root_tree`) with the contents of files in a scratch directory, laid
out there with plain permissions, and made into a file system by ``mke2fs -d`` in the jail: nothing is mounted. Owners
and permissions, which only root could give to files, are set inside the file system afterwards, by ``debugfs``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from services.converter.watched import Tell, watched
from tintype.disks.archives import Layer, layers_of, pass_layer
from tintype.disks.root_tree import Kind, Node, RootTree
from tintype.domain.errors import (
    ConfigurationError,
    ConversionFailedError,
    DecompressionBombError,
    MalformedImageError,
    StoreFullError,
)
from tintype.runtime.jail import JailLimits, JailResult, Sandbox, run_jailed

MKE2FS = Path("/sbin/mke2fs")
DEBUGFS = Path("/sbin/debugfs")
MAX_CONTENT_BYTES = 64 * 1024**3
"""What the files of an image may have together."""

_PIECE_BYTES = 1024 * 1024
_MIB = 1024 * 1024
_SCRIPT = "debugfs"
_LEAST_DISK_BYTES = 64 * _MIB
_BYTES_PER_NODE = 4096 + 256
_SPECIAL = {Kind.CHARACTER_DEVICE: b"c", Kind.BLOCK_DEVICE: b"b", Kind.FIFO: b"p"}
"""What mke2fs could copy for root only, and how debugfs calls it."""

_VERSION = re.compile(r"mke2fs (\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True)
class RootDisk:
    """What made the disk, for the attestation; ``arguments`` without the names of files on this machine."""

    tool: str
    version: str
    arguments: tuple[str, ...]


async def make_root_disk(
    archive: Path, output: Path, *, limits: JailLimits, sandbox: Sandbox, scratch_dir: Path, on_progress: Tell
) -> RootDisk:
    """Write the file system of the image in ``archive`` to ``output``, an existing and empty file.

    ``on_progress`` gets bytes of the files in it.

    Raises:
        RefusedContentError: a layer is not what it should be.
        ConversionFailedError: the file system cannot be made of it.
        StoreFullError: there is no room.
    """
    async with _scratch(scratch_dir) as scratch:
        names, size = await watched(lambda tell: _lay_out(archive, scratch, tell), on_progress)
        arguments = _mke2fs_arguments(names)
        script = scratch / _SCRIPT
        made = await run_jailed(
            [str(MKE2FS), *arguments, "-d", str(scratch / "root"), str(output), f"{_disk_bytes(size, names) // 1024}k"],
            read_only=[scratch / "root"], writable=[output], limits=limits, on_stdout_line=None, sandbox=sandbox,
        )  # fmt: skip
        _check(made, "mke2fs")
        set_up = await run_jailed(
            [str(DEBUGFS), "-w", "-f", str(script), str(output)],
            read_only=[scratch], writable=[output], limits=limits, on_stdout_line=None, sandbox=sandbox,
        )  # fmt: skip
        _check(set_up, "debugfs")
        if set_up.stderr.strip().count("\n"):  # behind its version, only what failed: it goes on, and ends well
            raise ConversionFailedError("debugfs could not give all files their owners and permissions")
    match = _VERSION.search(made.stderr)
    return RootDisk("mke2fs", match[1] if match else "", arguments)


def _lay_out(archive: Path, scratch: Path, tell: Tell) -> tuple[int, int]:
    """Merge the layers, put the result below ``scratch / "root"``, and write debugfs' script.

    The values are the number of all names, and the bytes of all files.
    """
    (scratch / "contents").mkdir()
    tree = RootTree()
    with _told():
        contents = _Contents(scratch / "contents", tell)
        for layer in layers_of(archive):
            _apply(tree, archive, layer, contents, scratch / "layer")
        names = tree.check()
        (scratch / "root").mkdir()
        size = _place(tree, scratch, contents.tell)
        with (scratch / _SCRIPT).open("xb") as script:
            for commands in _debugfs_script(tree, scratch):
                contents.tell()
                script.write(commands)
        return names, size


class _Contents:
    """The contents of files, under numbers; all together they are bounded."""

    def __init__(self, directory: Path, tell: Tell) -> None:
        self._directory = directory
        self._tell = tell
        self._count = 0
        self._total = 0

    def tell(self) -> None:
        """Tell how far this is; here cancelled work ends."""
        self._tell(self._total)

    def spool(self, tar: IO[bytes], piece: memoryview) -> None:
        """Write a piece of an unpacked layer."""
        self.tell()
        tar.write(piece)

    def keep(self, file: IO[bytes]) -> int:
        """Write a content, and tell its number."""
        self._count += 1
        with (self._directory / str(self._count)).open("xb") as kept:
            while piece := file.read(_PIECE_BYTES):
                self._total += len(piece)
                if self._total > MAX_CONTENT_BYTES:
                    raise DecompressionBombError(f"the layers have more than {MAX_CONTENT_BYTES} bytes of files")
                kept.write(piece)
                self.tell()
        return self._count


def _apply(tree: RootTree, archive: Path, layer: Layer, contents: _Contents, unpacked: Path) -> None:
    """Unpack a layer, which its digest proves to be the one that was inspected, and apply what is in it."""
    tree.begin_layer()
    with unpacked.open("w+b") as tar:
        pass_layer(archive, layer, lambda piece: contents.spool(tar, piece))
        tar.seek(0)
        with tarfile.open(fileobj=tar, mode="r:", errorlevel=2) as members:
            while (member := members.next()) is not None:
                contents.tell()
                file = members.extractfile(member) if member.isreg() else None
                tree.apply(member, contents.keep(file) if file else None)
                # It would keep all of them, and copy what global headers say into each.
                members.members.clear()  # type: ignore[attr-defined]  # typeshed leaves both out
                members.pax_headers.clear()  # type: ignore[attr-defined]
    unpacked.unlink()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as exc:
        raise MalformedImageError(f"a layer cannot be unpacked ({type(exc).__name__})") from exc


def _place(tree: RootTree, scratch: Path, tell: Callable[[], None]) -> int:
    """Make the tree of real files, with permissions that let mke2fs read them; the bytes that they have together."""
    placed: dict[int, str] = {}
    total = 0
    for path, node in tree.walk():
        tell()
        where = f"{scratch}/root{path}"
        match node.kind:
            case Kind.DIRECTORY:
                os.mkdir(where, 0o700)
            case Kind.SYMLINK:
                os.symlink(node.target, where)
            case Kind.FILE if id(node) in placed:
                os.link(placed[id(node)], where)
            case Kind.FILE:
                os.rename(f"{scratch}/contents/{node.content}", where)
                placed[id(node)] = where
                total += node.size
    return total


def _mke2fs_arguments(names: int) -> tuple[str, ...]:
    inodes = names + names // 4 + 1024
    return ("-t", "ext4", "-F", "-L", "root", "-m", "1", "-b", "4096", "-N", str(inodes), "-E", "root_owner=0:0")


def _disk_bytes(content_bytes: int, names: int) -> int:
    wanted = _LEAST_DISK_BYTES + (content_bytes + names * _BYTES_PER_NODE) * 5 // 4
    return -(-wanted // _MIB) * _MIB


def _debugfs_script(tree: RootTree, scratch: Path) -> Iterator[bytes]:
    """Commands that give every file its owner, its permissions and its time, and that make the devices.

    Each directory is gone into once, and its files are named without a path: debugfs reads lines of up to 8 KiB, takes
    the rest for the next command, and looks every component up anew.
    """
    yield _described(b'"/"', tree.root)
    values = scratch / "xattrs"
    values.mkdir()
    inside = ""
    for number, (path, node) in enumerate(tree.walk()):
        directory, _, last = path.rpartition("/")
        if directory != inside:
            yield b"cd %s\n" % _quoted(directory)
            inside = directory
        if node.kind in _SPECIAL:
            device = b" %d %d" % node.device if node.kind is not Kind.FIFO else b""
            yield b"mknod %s %s%s\n" % (_quoted(last), _SPECIAL[node.kind], device)
        name = _quoted(f"./{last}")  # lest "<12>" be the inode of that number
        yield _described(name, node)
        for key, value in node.xattrs.items():
            file = values / str(number)
            file.write_bytes(value)
            yield b"ea_set -f %s %s %s\n" % (_quoted(str(file)), name, key.encode())


def _described(name: bytes, node: Node) -> bytes:
    mode = f"0{node.kind.value | node.mode:o}"
    fields = {"mode": mode, "uid": str(node.uid), "gid": str(node.gid), "mtime": f"@{node.mtime_s}"}
    return b"".join(b"sif %s %s %s\n" % (name, key.encode(), value.encode()) for key, value in fields.items())


def _quoted(path: str) -> bytes:
    """A path as debugfs reads it; it has no control characters."""
    return b'"%s"' % os.fsencode(path).replace(b'"', b'""')


@asynccontextmanager
async def _scratch(directory: Path) -> AsyncIterator[Path]:
    try:
        # Not in a thread: if this were cancelled meanwhile the directory would stay.
        path = Path(tempfile.mkdtemp(prefix="tintype-", dir=directory))
        try:
            yield path
        finally:
            await asyncio.to_thread(shutil.rmtree, path)
    except OSError as exc:
        raise StoreFullError(f"the converter's scratch directory failed: {exc.strerror}") from exc


def _check(result: JailResult, tool: str) -> None:
    if result.is_timed_out:
        raise ConversionFailedError(f"{tool} did not end within the time that the site allows")
    if result.stderr.startswith("bwrap: "):
        raise ConfigurationError("the sandbox does not start")
    if not result.is_success:
        raise ConversionFailedError(f"{tool} could not make the root disk (exit code {result.exit_code})")
