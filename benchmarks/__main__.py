"""Runs every benchmark and writes docs/benchmarks.md: `make bench`."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import backups, catalog, formats, imports, latency, memory, stores, transfers
from benchmarks.disks import MIB, make_disks

REPORT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench`, or a table at a time from `python -m benchmarks NAME --write`, as measured:
{cores} cores, Python {python}, {system}. Each number is the median of {runs}
runs, with the least and the greatest; everything in a table was measured in turn, in the same run, over files in the
page cache. Take the ratios, not the seconds. The transferred disk has {size} MiB of random bytes; Tintype makes what it
publishes durable (fsync), the plain tools do not.
"""


def main() -> None:
    """Measure what was asked for; everything by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "only", nargs="*", help="imports, formats, transfers, latency, catalog, backups, stores, memory; default: all"
    )
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--size-mib", type=int, default=1024, help="the size of the disk that is moved (default 1024)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md, the others stay")
    arguments = parser.parse_args()
    text = asyncio.run(_measure(arguments.only, arguments.runs, arguments.size_mib))
    print(text)
    if not arguments.only:
        REPORT.write_text(text + "\n")
    elif arguments.write:
        REPORT.write_text(with_sections(REPORT.read_text(), text))


def with_sections(report: str, measured: str) -> str:
    """The report with the measured sections in the place of those of the same title, new ones behind the others."""
    head, *sections = report.rstrip("\n").split("\n## ")
    by_title = {section.partition("\n")[0]: section.rstrip("\n") for section in sections}
    for section in measured.rstrip("\n").split("\n## ")[1:]:
        by_title[section.partition("\n")[0]] = section.rstrip("\n")
    return "\n\n## ".join([head.rstrip("\n"), *by_title.values()]) + "\n"


async def _measure(only: list[str], runs: int, size_mib: int) -> str:
    sections: dict[str, tuple[str, Callable[[Path], Awaitable[str]]]] = {
        "imports": ("Imports", lambda d: imports.report(d, make_disks(d, size_mib * MIB), runs)),
        "formats": ("Inspection, digest, conversion", lambda d: formats.report(d, make_disks(d, size_mib * MIB), runs)),
        "transfers": ("Transfers", lambda d: transfers.report(d, make_disks(d, size_mib * MIB), runs)),
        "latency": ("Small images", latency.report),
        "catalog": ("Catalog", lambda d: catalog.report(d, runs)),
        "backups": ("Backups of the log", lambda d: backups.report(d, runs)),
        "stores": ("Stores", lambda d: stores.report(d, make_disks(d, size_mib * MIB).raw, runs)),
        "memory": ("Memory and responsiveness: import of 4 GiB with conversion", memory.report),
    }
    parts = [
        HEAD.format(
            cores=os.cpu_count(), python=platform.python_version(), system=platform.machine(), runs=runs, size=size_mib
        )
    ]
    for name, (title, report) in sections.items():
        if only and name not in only:
            continue
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix=f"tintype-bench-{name}-") as directory:
            parts.append(f"## {title}\n\n{await report(Path(directory))}\n")
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return "\n".join(parts)


if __name__ == "__main__":
    main()
