"""How ``tintype up`` becomes the supervisor of an embedded stack, which is :mod:`tintype.embedded`.

That module knows NATS, which the command line does not: so it is another program, in the same process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def run_stack(directory: Path, config: Path | None, ready_file: Path | None, *, is_encrypted: bool = False) -> int:
    """Run a stack in ``directory`` until SIGTERM or SIGINT. Does not return: this process becomes the supervisor.

    The process keeps its id, and drops all that the command line has loaded.
    """
    # As the interpreter was started: see tintype.embedded.child.
    options = [] if str(Path.cwd()) in sys.path or "" in sys.path else ["-P"]
    command = [sys.executable, *options, "-m", "tintype.embedded", "--dir", str(directory)]
    if config:
        command += ["--config", str(config)]
    if is_encrypted:
        command.append("--tls")
    if ready_file:
        command += ["--ready-file", str(ready_file)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, command)  # noqa: S606  # no shell: argv
