"""Which confinement this machine offers, and the command line that puts a tool into it.

It owns what a confined tool may see. Running it, and ending it, is the matter of :mod:`tintype.runtime.jail`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tintype.domain.errors import ConfigurationError
from tintype.runtime.seccomp import no_new_processes

_TRIAL_TIMEOUT_S = 10
_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
_NOBODY = "65534"
_LIBRARY_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ENVIRONMENT = {"PATH": _SEARCH_PATH, "LC_ALL": "C", "HOME": "/nonexistent"}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How tools are confined here; made by :func:`detect_sandbox`.

    ``bubblewrap`` is ``None`` only where the operator has said that tools may run without a sandbox: then the
    resource limits are all that holds them. ``seccomp`` is a filter in bubblewrap's form. ``on_end`` is told the
    name of each tool that has run, and how that ended: ``ok``, ``failed``, ``timed_out``,
    ``killed`` or ``cancelled``.
    """

    prlimit: Path
    bubblewrap: Path | None
    seccomp: bytes | None
    on_end: Callable[[str, str], object] = field(default=lambda tool, outcome: None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class JailLimits:
    """What one run of a tool may use up; for each process, save for the wall clock and the count of processes."""

    wall_clock_s: float = 3600.0
    cpu_s: int = 7200
    address_space_bytes: int = 4 * 1024**3
    file_size_bytes: int = 16 * 1024**4
    """No file may grow beyond it."""
    processes: int = 256
    """Processes and threads, of the user that runs the tool; a program inside cannot start processes at all where
    the system call filter is known for this machine."""
    open_files: int = 64


def detect_sandbox(*, unsafe_no_sandbox: bool = False) -> Sandbox:
    """Find bubblewrap and prlimit, and try them out. Blocks for some milliseconds: call it while starting.

    Raises:
        ConfigurationError: if tools cannot be confined, unless ``unsafe_no_sandbox`` accepts that.
    """
    prlimit = shutil.which("prlimit", path=_SEARCH_PATH)
    if prlimit is None:
        raise ConfigurationError("the program prlimit (util-linux) is not installed")
    bubblewrap = shutil.which("bwrap", path=_SEARCH_PATH)
    complaint = "the program bwrap (bubblewrap) is not installed"
    if bubblewrap is not None:
        sandbox = Sandbox(Path(prlimit), Path(bubblewrap), no_new_processes())
        complaint = _try_out(sandbox)
        if not complaint:
            return sandbox
    if not unsafe_no_sandbox:
        raise ConfigurationError(
            f"untrusted tools cannot be confined: {complaint}; converter.unsafe_no_sandbox accepts the danger"
        )
    import structlog  # a service's; the command line confines tools too, and is installed without it

    structlog.get_logger().warning("sandbox was switched off by configuration", complaint=complaint)
    return Sandbox(Path(prlimit), None, None)


def _try_out(sandbox: Sandbox) -> str:
    """Run ``true`` in it; what went wrong, or nothing."""
    with FilterFile(sandbox) as descriptor:
        command = command_line(sandbox, ["/usr/bin/true"], [], [], JailLimits(), descriptor)
        try:
            trial = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=[] if descriptor is None else [descriptor],
                timeout=_TRIAL_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return f"bwrap does not run ({type(exc).__name__})"
    if trial.returncode == 0:
        return ""
    return " ".join(trial.stderr.decode("utf-8", "replace").split())[:300] or f"bwrap ended with {trial.returncode}"


class FilterFile:
    """A file in memory with the sandbox's filter, open while a tool is started: bubblewrap reads it once."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._content = sandbox.seccomp
        self._descriptor: int | None = None

    def __enter__(self) -> int | None:
        if self._content is None:
            return None
        self._descriptor = os.memfd_create("tintype-seccomp")
        os.write(self._descriptor, self._content)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def command_line(
    sandbox: Sandbox,
    argv: Sequence[str],
    read_only: Sequence[Path],
    writable: Sequence[Path],
    limits: JailLimits,
    seccomp_descriptor: int | None,
) -> list[str]:
    """The whole command: bubblewrap, then prlimit inside it, then the tool. Named files keep their paths inside."""
    limited = [str(sandbox.prlimit), *_limit_options(limits), "--", *argv]
    if sandbox.bubblewrap is None:
        return limited
    command = [str(sandbox.bubblewrap), *_isolation_options()]
    for path in read_only:
        command += ["--ro-bind", str(path), str(path)]
    for path in writable:
        command += ["--bind", str(path), str(path)]
    # The root is a file system in memory: read-only from here on, lest the tool fill it.
    command += ["--remount-ro", "/dev", "--remount-ro", "/"]
    if seccomp_descriptor is not None:
        command += ["--seccomp", str(seccomp_descriptor)]
    return [*command, "--", *limited]


def environment() -> dict[str, str]:
    """All that a tool gets of the environment."""
    return dict(_ENVIRONMENT)


def _isolation_options() -> Iterator[str]:
    yield from ("--unshare-all", "--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY, "--cap-drop", "ALL")
    # No --hostname: the system call filters of container engines let namespaces be made, and no host name be set.
    yield from ("--die-with-parent", "--new-session", "--clearenv")
    for name, value in _ENVIRONMENT.items():
        yield from ("--setenv", name, value)
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _LIBRARY_DIRECTORIES:
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--dev", "/dev", "--chdir", "/")


def _limit_options(limits: JailLimits) -> Iterator[str]:
    yield f"--as={limits.address_space_bytes}"
    yield f"--cpu={limits.cpu_s}"
    yield f"--fsize={limits.file_size_bytes}"
    yield f"--nproc={limits.processes}"
    yield f"--nofile={limits.open_files}"
    yield "--core=0"
