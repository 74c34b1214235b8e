"""The examples of docs/sdk.md run as they stand, against a running stack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import Stack

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "sdk.md").read_text(), re.S)

pytestmark = [pytest.mark.nats, pytest.mark.qemu]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_as_it_stands(stack: Stack, tmp_path: Path, number: int) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(os.urandom(3 * 1024 * 1024))
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(tmp_path / "disk.qcow2")]
    subprocess.run(convert, check=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TINTYPE_CONFIG": str(stack.client_config)}

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLES[number]],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
