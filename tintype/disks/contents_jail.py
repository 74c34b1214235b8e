"""What is on a disk and which operating system boots from it: all facts of an image's contents.

The tables are read here; file systems only by a child in the jail, since the library that reads them is C code over
hostile bytes. Whatever happens to the child, the image is not to blame: then a fact says that nothing is known. The
root file systems that the library does not read, XFS and btrfs above all, tell their label and size and no more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import tintype
from tintype.disks.contents import Survey, content_fact, survey
from tintype.disks.contents_task import READABLE, Task, Volume
from tintype.disks.opening import open_disk
from tintype.domain.errors import ConfigurationError, UnsupportedImageError
from tintype.domain.values import DiskFormat, Fact
from tintype.inspect.fact_bounds import bounded
from tintype.runtime.jail import JailLimits, JailResult, Sandbox, run_jailed

LIMITS = JailLimits(
    wall_clock_s=30.0, cpu_s=10, address_space_bytes=1024**3, file_size_bytes=0, processes=256, open_files=64
)
"""What looking for an operating system may use up, unless told otherwise."""

BARE_CONTENTS = frozenset({DiskFormat.AMI, DiskFormat.ISO})
"""Formats that are a disk's bytes under another name: no disk to convert, and yet it can be told what is on it."""

_LIBRARY = "pytsk3"
_MODULES = (_LIBRARY, "isal", "zstandard")
"""What the child needs besides the standard library and this package."""

_PROGRAM = (
    "import json, sys; sys.path += json.loads(sys.argv[1]); "
    "from tintype.disks.contents_child import main; sys.exit(main(sys.argv[2:]))"
)
_KEYS = frozenset({"architecture", "os_detection", "os_distro", "os_pretty_name", "os_type", "os_version"})
_MAX_LINES = 64
_ROOT = "the root file system"


async def examine_contents(
    path: Path,
    disk_format: DiskFormat,
    *,
    sandbox: Sandbox | None,
    limits: JailLimits | None = None,
    offset: int = 0,
    length: int | None = None,
) -> Mapping[str, Fact]:
    """The facts of :data:`~tintype.disks.contents.CONTENT_FACTS` about the disk in an inspected image.

    Without a ``sandbox`` nothing is told of the operating system; nothing at all is told of an image that holds no
    disk, or an encrypted one. ``offset`` and ``length`` are those of :func:`~tintype.disks.opening.open_disk`.

    Raises:
        RefusedContentError: the image's own tables are not sound, so that the disk cannot be read.
        StoreUnavailableError: the file cannot be read.
    """
    is_optical = disk_format is DiskFormat.ISO
    if disk_format in BARE_CONTENTS:
        disk_format = DiskFormat.RAW
    try:
        found = await asyncio.to_thread(_survey, path, disk_format, offset, length)
    except UnsupportedImageError:
        return {}
    if is_optical:  # which firmware boots it is told by its boot catalog, and not by what it is as a hard disk
        found = replace(found, facts={key: fact for key, fact in found.facts.items() if key != "hw_firmware_type"})
    task = _task(path, disk_format, offset, length, found)
    if not task.volumes:
        return found.facts
    return bounded({**found.facts} | await _look_for_system(task, sandbox, limits or LIMITS))


def _survey(path: Path, disk_format: DiskFormat, offset: int, length: int | None) -> Survey:
    with open_disk(path, disk_format, offset=offset, length=length) as disk:
        return survey(disk)


def _task(path: Path, disk_format: DiskFormat, offset: int, length: int | None, found: Survey) -> Task:
    volumes = tuple(
        Volume(volume.file_system.type, volume.start, volume.size_bytes, volume.place)
        for volume in found.volumes
        if volume.file_system.type in READABLE
    )
    return Task(os.path.abspath(path), disk_format.value, offset, length, volumes)


async def _look_for_system(task: Task, sandbox: Sandbox | None, limits: JailLimits) -> dict[str, Fact]:
    """Run the child; only what it has said before it ended well is believed, and that as an image's own words."""
    if find_spec(_LIBRARY) is None:
        return _failed(f"the library {_LIBRARY} is not installed")
    if sandbox is None:
        return _failed("there is no sandbox")
    import_path = _import_path()
    command = [str(_interpreter()), "-I", "-S", "-B", "-c", _PROGRAM]
    lines: list[str] = []
    try:
        result = await run_jailed(
            [*command, json.dumps([str(directory) for directory in import_path]), task.to_json()],
            read_only=[*_visible(import_path), Path(task.path)],
            writable=[],
            limits=limits,
            on_stdout_line=lambda line: lines.append(line) if len(lines) < _MAX_LINES else None,
            sandbox=sandbox,
        )
    except ConfigurationError as error:
        return _failed(error.message)
    if not result.is_success:
        return _failed(_how_it_ended(result))
    try:
        return dict(_facts_in(lines))
    except (KeyError, TypeError, ValueError, RecursionError):
        return _failed("the reader of file systems did not make sense")


def _failed(why: str) -> dict[str, Fact]:
    return {"os_detection": content_fact("os_detection", f"failed: {why}", _ROOT)}


def _how_it_ended(result: JailResult) -> str:
    if result.is_timed_out:
        return "the reader of file systems took too long"
    how = f"signal {-result.exit_code}" if result.exit_code < 0 else f"exit code {result.exit_code}"
    said = result.stderr.strip().rpartition("\n")[2]
    return f"the reader of file systems ended with {how}" + (f": {said[:120]}" if said else "")


def _facts_in(lines: list[str]) -> Iterator[tuple[str, Fact]]:
    """The facts in the child's lines.

    Raises:
        KeyError, TypeError, ValueError, RecursionError: a line is none that the child would write.
    """
    for line in lines:
        key, value, source = json.loads(line)
        if key not in _KEYS or not isinstance(source, str):
            raise ValueError(line)
        yield key, content_fact(key, value, source[:200])


def _interpreter() -> Path:
    """The interpreter itself, which a virtual environment only points to."""
    return Path(sys.executable).resolve()


def _import_path() -> list[Path]:
    """The directories in which the child finds this package, first, and its libraries."""
    package = Path(tintype.__file__).resolve().parent
    origins = [spec.origin for name in _MODULES if (spec := find_spec(name)) is not None and spec.origin is not None]
    modules = [Path(origin) for origin in origins]
    found = [path.parent.parent if path.name == "__init__.py" else path.parent for path in modules]
    # Installed, all of them are in one directory, which then stands here twice: for the package, and for the libraries.
    return [package.parent, *dict.fromkeys(found)]


def _visible(import_path: list[Path]) -> list[Path]:
    """What the jail must show besides ``/usr``: the interpreter's own files, this package, and the libraries'."""
    package, *libraries = import_path
    needed = [Path(sys.base_prefix).resolve(), package / "tintype", *libraries]
    # An interpreter in /bin may take the root for its prefix, which must never be shown; its files are there anyway.
    return [path for path in dict.fromkeys(needed) if path != Path("/") and not path.is_relative_to("/usr")]
