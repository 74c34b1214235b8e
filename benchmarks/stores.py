"""Writing to and reading from stores, decorators included, against the systems' own programs on the same bytes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import by_hand
from benchmarks.disks import MIB
from benchmarks.file_pipes import KEY, pieces_of, read_into, write
from benchmarks.measure import Sample, table
from benchmarks.store_memory import peak_rss_mib
from benchmarks.store_systems import STARTS, System
from services.importer.fan_out import Branch, FanOutWriter
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.adapters.stores import open_store
from tintype.ports.image_store import ImageStore
from tintype.runtime.service import keep_freed_memory

GOAL, GOAL_OF_TWO, GOAL_MIB = 0.9, 1.15, 200


@dataclass(frozen=True)
class Turn:
    """One thing that is measured: ``prepare`` is not."""

    prepare: Callable[[], Awaitable[None]]
    work: Callable[[], Awaitable[None]]


@dataclass
class Rows:
    """What the three tables say."""

    speed: list[list[str]]
    two: list[list[str]]
    memory: list[list[str]]


async def report(directory: Path, source: Path, runs: int) -> str:
    """The tables of all stores that have a system here; each system runs alone, while its stores are measured."""
    keep_freed_memory()  # as a service does
    size_mib = source.stat().st_size // MIB
    rows = Rows([], [], [])
    for start in STARTS.values():
        with start(directory, source) as systems:
            await _measure(directory, source, runs, systems, rows)
    speed = ["store", "", "MiB/s", "native, MiB/s", f"ratio of throughputs (goal ≥ {GOAL})", "", "native tool"]
    two = ["two stores", "s", "the slower one alone, s", f"ratio of times (goal ≤ {GOAL_OF_TWO})", ""]
    memory = ["store", f"peak RSS with {size_mib} MiB, MiB (goal ≤ {GOAL_MIB})", ""]
    return "\n\n".join(
        [
            _setting(directory, runs, size_mib),
            table(speed, rows.speed),
            table(two, rows.two),
            table(memory, rows.memory),
        ]
    )


async def _measure(directory: Path, source: Path, runs: int, systems: Sequence[System], rows: Rows) -> None:
    async with AsyncExitStack() as stack:
        beside = await _opened(stack, "beside", FileStoreSettings(path=directory / "beside"))
        stores = {system.name: await _opened(stack, "main", system.settings) for system in systems}
        turns: dict[str, Turn] = {"beside": Turn(_settled(directory), partial(write, beside, source))}
        for system in systems:
            turns |= _turns(system, stores[system.name], directory, source)
            both = partial(write_both, (beside, stores[system.name]), source)
            turns[f"{system.name}: two"] = Turn(_settled(directory), both)
        taken = await _in_turn(runs, turns)
        for system in systems:
            rows.speed += _speed_rows(system, taken, source.stat().st_size)
            rows.two.append(_two_row(system, taken))
        for store in (beside, *stores.values()):
            await store.delete(KEY)
    for system in systems:
        peak = await peak_rss_mib(system.settings, source)
        rows.memory.append([system.name, f"{peak:.0f}", _verdict(peak <= GOAL_MIB)])


async def _opened(stack: AsyncExitStack, name: str, settings: object) -> ImageStore:
    store = await open_store(name, settings)  # type: ignore[arg-type]
    stack.push_async_callback(store.aclose)
    return store


async def write_both(stores: Sequence[ImageStore], source: Path) -> None:
    """Write into several stores at once, as uploads do."""
    branches = [Branch(store, await store.open_write(KEY, replace=True)) for store in stores]
    writer = FanOutWriter(branches, {}, all_must_succeed=True)
    async for piece in pieces_of(source):
        await writer.append(piece)
    await writer.commit(size=writer.offset, digests={})


def _turns(system: System, store: ImageStore, directory: Path, source: Path) -> Mapping[str, Turn]:
    """The store and the native tool, first written and then read; what the tool has written, it removes first."""
    settled = _settled(directory)
    has_native = False

    async def native_write() -> None:
        nonlocal has_native
        await system.run(system.write, directory)
        has_native = True

    async def remove_native() -> None:
        if has_native:
            await system.run(system.remove, directory)
        await settled()

    return {
        f"{system.name}: write": Turn(settled, partial(write, store, source)),
        f"{system.name}: native write": Turn(remove_native, native_write),
        f"{system.name}: read": Turn(settled, partial(read_into, store, directory / "downloaded.img")),
        f"{system.name}: native read": Turn(settled, partial(system.run, system.read, directory)),
    }


def _settled(directory: Path) -> Callable[[], Awaitable[None]]:
    async def settle() -> None:
        by_hand.remove(directory)
        await asyncio.to_thread(os.sync)

    return settle


async def _in_turn(runs: int, turns: Mapping[str, Turn]) -> Mapping[str, Sample]:
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(runs):
        for name, turn in turns.items():
            await turn.prepare()
            begin = time.perf_counter()
            await turn.work()
            taken[name].append(time.perf_counter() - begin)
    return {name: Sample(tuple(values)) for name, values in taken.items()}


def _speed_rows(system: System, taken: Mapping[str, Sample], size: int) -> list[list[str]]:
    rows = []
    for verb, tool in zip(("write", "read"), system.tools, strict=True):
        own, native = taken[f"{system.name}: {verb}"], taken[f"{system.name}: native {verb}"]
        rates = [f"{size / MIB / sample.median:.0f}" for sample in (own, native)]
        is_met = native.median / own.median >= GOAL
        rows.append([system.name, verb, *rates, native.ratio(own), _verdict(is_met), tool])
    return rows


def _two_row(system: System, taken: Mapping[str, Sample]) -> list[str]:
    both = taken[f"{system.name}: two"]
    slower = max(taken["beside"], taken[f"{system.name}: write"], key=lambda sample: sample.median)
    is_met = both.median / slower.median <= GOAL_OF_TWO
    return [f"file and {system.name}", str(both), str(slower), both.ratio(slower), _verdict(is_met)]


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "**not met**"


def _setting(directory: Path, runs: int, size_mib: int) -> str:
    return f"""{os.cpu_count()} cores, which Tintype, the system's servers and its own program share. The stores, the
source and Swift's disk are on {_file_system(directory)}; Ceph's one OSD keeps its data in memory. {size_mib} MiB of
random bytes; medians of {runs} rounds, in which all took turns. A store makes durable what it commits, and so does
`cp, sync`; all go through the decorators that a service puts around its stores. Two stores are written at once by the
fan-out of uploads; the file store is one on the same disk. Peak memory is that of a process of its own, which writes
the image and reads it again."""


def _file_system(directory: Path) -> str:
    """The kind of file system, and of disk, that a directory is on."""
    device = directory.stat().st_dev
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, described = line.partition(" - ")
        if fields.split()[2] == f"{os.major(device)}:{os.minor(device)}":
            kind, source = described.split()[:2]
            return f"{kind} on {'a virtual disk' if source.startswith('/dev/vd') else 'a local disk'}"
    return "a file system of unknown kind"
