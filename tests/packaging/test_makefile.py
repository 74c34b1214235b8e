"""The Makefile: every command is listed, and the checks that hooks call exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = re.compile(r"^([a-z0-9-]+):(?!=)", re.MULTILINE)


def targets() -> set[str]:
    return set(TARGET.findall((ROOT / "Makefile").read_text()))


def test_help_lists_every_target() -> None:
    output = subprocess.run(["make", "--silent", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    listed = {line.split()[1] for line in output.splitlines() if line.startswith("make ")}
    assert listed == targets()


def test_every_target_is_phony() -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (names,) = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert set(names.split()) == targets()


def test_hooks_call_targets_that_exist() -> None:
    called = re.findall(r"entry: make (\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert called
    assert set(called) <= targets()
