"""What a killed converter leaves in its scratch directory is removed by the next one, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.converter.scratch import LOCK, PREFIX, YOUNG_S, own_scratch, remove_abandoned
from tintype.domain.errors import ConfigurationError

HOLDER = """
import sys, time
from pathlib import Path
from services.converter.scratch import own_scratch
with own_scratch(Path(sys.argv[1])) as own:
    (own / "disk").write_bytes(b"bytes")
    print(own, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with scratch files."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    process.stdout.close()


def aged(path: Path) -> Path:
    """The path, as if nothing had been done there for a while."""
    before = path.stat().st_mtime - YOUNG_S - 1
    os.utime(path, (before, before))
    return path


def test_own_directory_is_gone_at_the_end(tmp_path: Path) -> None:
    with own_scratch(tmp_path) as own:
        (own / "disk").write_bytes(b"bytes")
        assert own.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path, holder: tuple[subprocess.Popen[str], Path]) -> None:
    process, left = holder
    process.kill()
    process.wait()
    assert (aged(left) / "disk").exists()
    with own_scratch(tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]


def test_what_a_living_process_has_stays(tmp_path: Path, holder: tuple[subprocess.Popen[str], Path]) -> None:
    _, held = holder
    remove_abandoned(tmp_path)
    aged(held)
    remove_abandoned(tmp_path)
    assert (held / "disk").exists()


def test_what_is_young_or_of_others_stays(tmp_path: Path) -> None:
    young = tmp_path / f"{PREFIX}young"
    young.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    aged(elsewhere)
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    aged(tmp_path / f"{PREFIX}file")
    before = sorted(tmp_path.iterdir())
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert (elsewhere / LOCK).exists()


def test_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^converter\.scratch_dir .*nowhere cannot be used: No such file"),
        own_scratch(tmp_path / "nowhere"),
    ):
        pass
