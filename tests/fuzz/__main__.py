"""Fuzzing with atheris, guided by coverage: `make fuzz`, or `python -m tests.fuzz TARGET [--seconds N]`.

Without a target every one runs in turn, in a process of its own. What is found is kept in `.fuzz/TARGET/`, with the
corpus; the exit code is 1 if anything was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KEPT = Path(".fuzz")
_SECONDS = 300
_MAX_LENGTH = 512 * 1024
_RSS_LIMIT_MIB = 2048
_TIMEOUT_S = 25


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which atheris ends."""
    import atheris  # only this command needs it

    with atheris.instrument_imports(include=["tintype"]):
        from tests.fuzz.targets import targets
        from tintype.disks.opening import known_readers

        # The modules of formats and readers are imported by these calls, and so must be inside as well.
        target = targets()[name]
        known_readers()
    directory = KEPT / name
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}", f"-max_len={_MAX_LENGTH}", f"-rss_limit_mb={_RSS_LIMIT_MIB}",
        f"-timeout={_TIMEOUT_S}", f"-artifact_prefix={directory}/", "-print_final_stats=1", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], target.run)
    atheris.Fuzz()


def fuzz_all(seconds: int, jobs: int) -> int:
    """Fuzz every target, ``jobs`` at once; how many had findings."""
    from tests.fuzz.targets import targets

    def one(name: str) -> bool:
        (KEPT / name).mkdir(parents=True, exist_ok=True)
        with (KEPT / name / "log").open("wb") as log:
            command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds)]
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        print(f"{name}: {'nothing found' if code == 0 else f'FOUND SOMETHING, see {KEPT}/{name}/log'}", flush=True)
        return code != 0

    with ThreadPoolExecutor(jobs) as pool:
        return sum(pool.map(one, targets()))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", help="one target; all if left out")
    parser.add_argument("--seconds", type=int, default=_SECONDS, help="seconds for each target (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at once (default %(default)s)")
    arguments = parser.parse_args()
    if arguments.target:
        fuzz(arguments.target, arguments.seconds)
    else:
        sys.exit(1 if fuzz_all(arguments.seconds, arguments.jobs) else 0)


if __name__ == "__main__":
    main()
