"""The jail holds: what a hostile tool tries in it fails, and it leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tintype.domain.errors import ConfigurationError
from tintype.runtime import sandbox as sandbox_module
from tintype.runtime.jail import JailLimits, JailResult, Sandbox, detect_sandbox, run_jailed
from tintype.runtime.seccomp import no_new_processes

pytestmark = pytest.mark.sandbox

BASH = "/usr/bin/bash"
LIMITS = JailLimits(wall_clock_s=60, cpu_s=30, address_space_bytes=512 << 20, file_size_bytes=1 << 20)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return detect_sandbox()  # where there is none the tests fail, and say why


async def run(
    sandbox: Sandbox,
    script: str,
    *,
    read_only: tuple[Path, ...] = (),
    writable: tuple[Path, ...] = (),
    limits: JailLimits = LIMITS,
    lines: list[str] | None = None,
) -> JailResult:
    return await run_jailed(
        [BASH, "-c", script],
        read_only=read_only,
        writable=writable,
        limits=limits,
        on_stdout_line=None if lines is None else lines.append,
        sandbox=sandbox,
    )


async def test_tool_reads_and_writes_the_named_files(sandbox: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "output"
    source.write_text("content\n")
    output.touch()
    result = await run(sandbox, f"read x < {source}; echo $x > {output}", read_only=(source,), writable=(output,))
    assert result == JailResult(0, "", is_timed_out=False)
    assert output.read_text() == "content\n"


@pytest.mark.parametrize(
    ("script", "limits", "outcome"),
    [
        ("true", LIMITS, "ok"),
        ("exit 3", LIMITS, "failed"),
        ("kill -SYS $$", LIMITS, "killed"),
        ("while :; do :; done", JailLimits(wall_clock_s=0.3), "timed_out"),
    ],
)
async def test_who_made_the_sandbox_is_told_how_each_tool_ended(
    sandbox: Sandbox, script: str, limits: JailLimits, outcome: str
) -> None:
    told: list[tuple[str, str]] = []
    watched = replace(sandbox, on_end=lambda *end: told.append(end))
    assert (await run(watched, script, limits=limits)).outcome == outcome
    assert told == [("bash", outcome)]


async def test_output_is_split_at_both_line_ends_and_stderr_is_bounded(sandbox: Sandbox) -> None:
    lines: list[str] = []
    script = r"printf 'a\rb\nlast'; for i in {1..4000}; do echo 'much to say' >&2; done; exit 3"
    result = await run(sandbox, script, lines=lines)
    assert lines == ["a", "b", "last"]
    assert result.exit_code == 3
    assert len(result.stderr) == 16 * 1024


async def test_endless_line_takes_no_memory(sandbox: Sandbox) -> None:
    lines: list[str] = []
    await run(sandbox, r"for i in {1..20000}; do printf '0123456789'; done; echo; echo end", lines=lines)
    assert [len(line) for line in lines] == [4096, 3]


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "/sys/kernel", "/root", "/home"])
async def test_tool_sees_nothing_of_the_host_but_its_programs(sandbox: Sandbox, path: str) -> None:
    assert (await run(sandbox, f"[ -e {path} ]")).exit_code == 1


async def test_tool_sees_no_file_that_was_not_named(sandbox: Sandbox, tmp_path: Path) -> None:
    named, neighbour = tmp_path / "named", tmp_path / "neighbour"
    named.write_text("x")
    neighbour.write_text("secret")
    assert (await run(sandbox, f"[ -e {named} ]", read_only=(named,))).exit_code == 0
    assert (await run(sandbox, f"[ -e {neighbour} ]", read_only=(named,))).exit_code == 1


async def test_tool_gets_nothing_of_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_SECRET", "secret")
    lines: list[str] = []
    await run(sandbox, "export; echo done", lines=lines)
    assert lines[-1] == "done"
    assert not [line for line in lines if "secret" in line.lower()]


@pytest.mark.parametrize("place", ["/file", "/usr/file", "/tmp/file", "/dev/file", "/dev/shm/file", "/var/tmp/file"])
async def test_tool_writes_nowhere_else(sandbox: Sandbox, place: str) -> None:
    assert (await run(sandbox, f"echo x > {place}")).exit_code == 1


async def test_tool_cannot_write_what_it_may_read(sandbox: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("content")
    assert (await run(sandbox, f"echo x > {source}", read_only=(source,))).exit_code == 1
    assert source.read_text() == "content"


async def test_tool_has_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        result = await run(sandbox, f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        assert result.exit_code == 1
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.skipif(no_new_processes() is None, reason="no system call filter for this machine")
async def test_tool_cannot_start_a_process(sandbox: Sandbox) -> None:
    lines: list[str] = []
    result = await run(sandbox, "bomb() { bomb | bomb & }; echo before; bomb; echo after", lines=lines)
    assert lines[0] == "before"
    assert "fork" in result.stderr


async def test_fork_bomb_is_over_when_its_time_is(sandbox: Sandbox) -> None:
    without_filter = replace(sandbox, seccomp=None)
    script = "for i in {1..40}; do (read -t 3605 <> /dev/ptmx) & done; echo all; read -t 3605 <> /dev/ptmx"
    lines: list[str] = []
    result = await run(without_filter, script, limits=replace(LIMITS, wall_clock_s=1.0), lines=lines)
    assert lines == ["all"]
    assert result.is_timed_out
    assert processes_of("read -t 3605") == []


async def test_tool_that_eats_memory_is_stopped(sandbox: Sandbox) -> None:
    result = await run(sandbox, "x=12345678; while :; do x=$x$x; done")
    assert not result.is_success
    assert not result.is_timed_out
    assert "cannot allocate" in result.stderr


async def test_tool_that_writes_too_much_is_stopped(sandbox: Sandbox, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.touch()
    result = await run(sandbox, f"while echo 0123456789012345; do :; done > {output}", writable=(output,))
    assert not result.is_success
    assert not result.is_timed_out
    assert output.stat().st_size <= LIMITS.file_size_bytes


async def test_tool_that_takes_too_much_cpu_is_killed(sandbox: Sandbox) -> None:
    result = await run(sandbox, "while :; do :; done", limits=replace(LIMITS, cpu_s=1))
    assert result.exit_code in (-signal.SIGKILL, -signal.SIGXCPU)
    assert not result.is_timed_out


async def test_tool_that_takes_too_long_is_killed(sandbox: Sandbox) -> None:
    result = await run(sandbox, "read -t 3601 <> /dev/ptmx", limits=replace(LIMITS, wall_clock_s=0.5))
    assert result.is_timed_out
    assert not result.is_success
    assert processes_of("read -t 3601") == []


async def test_cancellation_ends_the_tool_before_it_goes_on(sandbox: Sandbox) -> None:
    told: list[tuple[str, str]] = []
    started = asyncio.Event()
    task = asyncio.ensure_future(
        run_jailed(
            [BASH, "-c", "echo started; read -t 3602 <> /dev/ptmx"],
            read_only=[],
            writable=[],
            limits=LIMITS,
            on_stdout_line=lambda _: started.set(),
            sandbox=replace(sandbox, on_end=lambda *end: told.append(end)),
        )
    )
    async with asyncio.timeout(30):
        await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processes_of("read -t 3602") == []
    assert told == [("bash", "cancelled")]  # and not killed: the tool has done nothing wrong


async def test_cancellation_while_the_sandbox_is_being_set_up_ends_all_of_it(sandbox: Sandbox, tmp_path: Path) -> None:
    """Bubblewrap that is killed early leaves a child of its own, which waits for it for ever and holds the pipes."""
    waiting, early = tmp_path / "waiting", tmp_path / "bwrap"
    os.mkfifo(waiting)
    early.write_text(f"#!{BASH}\n(echo > {waiting}; read -t 3605 <> /dev/ptmx) & wait\n")
    early.chmod(0o755)
    task = asyncio.create_task(run(replace(sandbox, bubblewrap=early), "true"))
    while not processes_of(str(early)):
        await asyncio.sleep(0)
    with waiting.open() as fifo:  # the event loop stands still, so that asyncio has not connected the pipes yet
        assert fifo.read() == "\n"
    task.cancel()

    await asyncio.wait([task], timeout=30)

    assert task.cancelled()
    assert processes_of(str(early)) == []


async def test_tool_dies_with_its_parent(sandbox: Sandbox, tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "import asyncio, sys\n"
        "from tintype.runtime.jail import JailLimits, detect_sandbox, run_jailed\n"
        "asyncio.run(run_jailed([sys.argv[1], '-c', 'echo started; read -t 3603 <> /dev/ptmx'], read_only=[],\n"
        "    writable=[], limits=JailLimits(), on_stdout_line=lambda line: print(line, flush=True),\n"
        "    sandbox=detect_sandbox()))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, str(program), BASH], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        tools = processes_of("read -t 3603")
        assert tools
        descriptors = [os.pidfd_open(tool) for tool in tools]
        parent.kill()
    async with asyncio.timeout(30):
        for descriptor in descriptors:
            await _readable(descriptor)  # a pidfd is readable once its process has ended
            os.close(descriptor)
    assert processes_of("read -t 3603") == []


async def test_path_must_be_absolute(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="not absolute"):
        await run(sandbox, "true", read_only=(Path("relative"),))


def test_service_does_not_start_without_a_sandbox_unless_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "_try_out", lambda _: "no user namespaces here")
    with pytest.raises(ConfigurationError, match="unsafe_no_sandbox"):
        detect_sandbox()
    assert detect_sandbox(unsafe_no_sandbox=True).bubblewrap is None


async def test_limits_hold_without_a_sandbox(sandbox: Sandbox) -> None:
    bare = Sandbox(sandbox.prlimit, None, None)
    lines: list[str] = []
    assert (await run(bare, "echo hello", lines=lines)).is_success
    assert lines == ["hello"]
    script = "(read -t 3604 <> /dev/ptmx) & read -t 3604 <> /dev/ptmx"
    result = await run(bare, script, limits=replace(LIMITS, wall_clock_s=0.5))
    assert result.is_timed_out
    assert processes_of("read -t 3604") == []


def processes_of(words: str) -> list[int]:
    """Processes other than this one whose command line has these words."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) != os.getpid():
            with suppress(OSError):
                state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
                if words.encode() in (directory / "cmdline").read_bytes() and state != "Z":
                    found.append(int(directory.name))
    return found


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
