"""A child ends with its parent, however that ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tintype.runtime.child_process import start_child, stop_child

SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-I",
    "-S",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]
PARENT = f"""
import asyncio
from tintype.runtime.child_process import start_child

async def main():
    child = await start_child({SLEEPER!r})
    print(child.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_child_dies_when_its_parent_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = os.pidfd_open(int(await parent.stdout.readline()))
    try:
        parent.kill()
        await parent.wait()
        ended = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(child, ended.set_result, None)  # readable once the process has ended
        await ended
    finally:
        asyncio.get_running_loop().remove_reader(child)
        os.close(child)


async def test_a_child_gets_its_arguments_and_environment_and_answers_its_code() -> None:
    program = "import os, sys; print(sys.argv[1:], os.environ); sys.exit(7)"
    child = await start_child(
        [sys.executable, "-I", "-S", "-c", program, "a b", "*"], env={"ONLY": "this"}, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    output = (await child.stdout.read()).decode()
    assert "['a b', '*']" in output
    assert "'ONLY': 'this'" in output
    assert "HOME" not in output
    assert await child.wait() == 7


async def test_a_child_is_in_a_process_group_of_its_own() -> None:
    child = await start_child(SLEEPER)
    assert os.getpgid(child.pid) == child.pid
    assert await stop_child(child, grace_s=30) == -signal.SIGTERM


async def test_a_stubborn_child_is_killed() -> None:
    child = await start_child(STUBBORN, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    await child.stdout.readline()
    assert await stop_child(child, grace_s=0.05) == -signal.SIGKILL


async def test_stopping_an_ended_child_answers_its_code() -> None:
    child = await start_child([sys.executable, "-c", "pass"])
    await child.wait()
    assert await stop_child(child, grace_s=1) == 0


async def test_a_missing_program_ends_with_an_error(tmp_path: Path) -> None:
    child = await start_child([f"{tmp_path}/missing"], stderr=asyncio.subprocess.DEVNULL)
    assert await child.wait() == 1
