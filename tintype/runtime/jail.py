"""Running one untrusted tool: confined, limited, and gone when its caller is.

It owns the life of the process and what is heard of it. What the tool may see stands in
:mod:`tintype.runtime.sandbox`, and what a failure means is for the caller to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tintype.domain.errors import ConfigurationError
from tintype.runtime.sandbox import FilterFile, JailLimits, Sandbox, command_line, detect_sandbox, environment

__all__ = ["JailLimits", "JailResult", "Sandbox", "detect_sandbox", "run_jailed"]

_MAX_STDERR_BYTES = 16 * 1024
_MAX_LINE_BYTES = 4096
_READ_SIZE = 64 * 1024
_REAP_TIMEOUT_S = 30.0

KILLED = "killed"
CANCELLED = "cancelled"
"""How a tool ended whose run was given up: its image wants it no more, or the service stops."""


@dataclass(frozen=True, slots=True)
class JailResult:
    """How a tool ended.

    ``exit_code`` is negative if the tool was killed by that signal. ``stderr`` is its first 16 KiB.
    """

    exit_code: int
    stderr: str
    is_timed_out: bool

    @property
    def is_success(self) -> bool:
        """Whether the tool ended by itself, and said that all is well."""
        return self.exit_code == 0 and not self.is_timed_out

    @property
    def outcome(self) -> str:
        """In one word: ``ok``, ``failed``, ``timed_out`` or ``killed``, as by a limit or the system call filter."""
        if self.is_timed_out:
            return "timed_out"
        if self.exit_code < 0:
            return KILLED
        return "ok" if self.exit_code == 0 else "failed"


async def run_jailed(
    argv: Sequence[str],
    *,
    read_only: Sequence[Path],
    writable: Sequence[Path],
    limits: JailLimits,
    on_stdout_line: Callable[[str], None] | None,
    sandbox: Sandbox,
) -> JailResult:
    r"""Run a tool that may be hostile, or that reads hostile input, and wait for its end.

    It sees ``/usr`` and the named files, which keep their absolute paths, and nothing else: no network, no home, no
    other process. ``on_stdout_line`` is called in the event loop with each line of its standard output, ended by
    ``\n`` or ``\r``; what is over 4 KiB of a line is dropped. However this call ends, the tool has ended too, with
    all that it started; if this process is killed, so is the tool. (Linux binds a child to the thread that started
    it: call this from an event loop that lives as long as the process.)

    Raises:
        ConfigurationError: if the sandbox cannot be started any more.
        ValueError: if a path is not absolute.
    """
    for path in (*read_only, *writable):
        if not path.is_absolute():
            raise ValueError(f"{path} is not absolute")
    process = await _start(argv, read_only, writable, limits, sandbox)
    try:
        result = await _heard_out(process, limits, on_stdout_line, sandbox)
    except BaseException:  # nobody waits for it any more
        sandbox.on_end(_tool(argv), CANCELLED)
        raise
    sandbox.on_end(_tool(argv), result.outcome)
    return result


async def _heard_out(
    process: asyncio.subprocess.Process,
    limits: JailLimits,
    on_stdout_line: Callable[[str], None] | None,
    sandbox: Sandbox,
) -> JailResult:
    is_timed_out = False
    stderr = bytearray()
    try:
        try:
            async with asyncio.timeout(limits.wall_clock_s), asyncio.TaskGroup() as tasks:
                tasks.create_task(_read_lines(_pipe(process.stdout), on_stdout_line))
                tasks.create_task(_read_bounded(_pipe(process.stderr), stderr))
                tasks.create_task(process.wait())
        except TimeoutError:
            is_timed_out = True
    finally:
        if process.returncode is None or is_timed_out or sandbox.bubblewrap is None:
            await _end(process)
    assert process.returncode is not None
    return JailResult(_exit_code(process.returncode, sandbox), stderr.decode("utf-8", "replace"), is_timed_out)


def _tool(argv: Sequence[str]) -> str:
    """What a run is counted as: the program's name, whatever its version."""
    return Path(argv[0]).name.rstrip("0123456789.")


async def _start(
    argv: Sequence[str], read_only: Sequence[Path], writable: Sequence[Path], limits: JailLimits, sandbox: Sandbox
) -> asyncio.subprocess.Process:
    with FilterFile(sandbox) as descriptor:
        command = command_line(sandbox, argv, read_only, writable, limits, descriptor)
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
                cwd="/",
                start_new_session=True,  # so that a Ctrl-C at the terminal leaves the end of the tool to us
                pass_fds=[] if descriptor is None else [descriptor],
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # asyncio would kill bubblewrap alone, and wait until its pipes end. A child that bubblewrap has begun with
            # holds them, and waits for bubblewrap for ever.
            await asyncio.wait([starting])
            if not starting.cancelled() and starting.exception() is None:
                await _end(starting.result())
            raise
        except OSError as exc:
            raise ConfigurationError(f"the sandbox cannot be started: {exc.strerror}") from exc


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left and wait for it; a cancellation that arrives meanwhile does not cut this short.

    Bubblewrap's death takes the whole process namespace with it; without bubblewrap the session's group is all there
    is to kill.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # The pipes end when the last process that holds them has: bubblewrap itself may be gone a moment earlier.
    reaping = asyncio.ensure_future(asyncio.wait_for(process.communicate(), _REAP_TIMEOUT_S))
    try:
        await asyncio.shield(reaping)
    except asyncio.CancelledError:
        await reaping
        raise


async def _read_lines(stream: asyncio.StreamReader, on_line: Callable[[str], None] | None) -> None:
    r"""Split at ``\n`` and ``\r`` (tools redraw their progress with it), keeping a bounded part of each line."""
    line = b""
    while data := await stream.read(_READ_SIZE):
        *complete, line = (line + data).replace(b"\r", b"\n").split(b"\n")
        line = line[:_MAX_LINE_BYTES]
        for item in complete:
            if on_line is not None and item:
                on_line(item[:_MAX_LINE_BYTES].decode("utf-8", "replace"))
    if on_line is not None and line:
        on_line(line.decode("utf-8", "replace"))


async def _read_bounded(stream: asyncio.StreamReader, kept: bytearray) -> None:
    """Keep the beginning, and read on, so that the tool is never held up by what nobody wants."""
    while data := await stream.read(_READ_SIZE):
        kept += data[: _MAX_STDERR_BYTES - len(kept)]


def _pipe(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    assert stream is not None
    return stream


def _exit_code(returncode: int, sandbox: Sandbox) -> int:
    """Bubblewrap tells a death by signal as a shell does: 128 and the signal's number."""
    if sandbox.bubblewrap is not None and 128 < returncode < 128 + signal.NSIG:
        return 128 - returncode
    return returncode
