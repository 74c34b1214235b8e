"""``tools/install-system-packages``: says in one line what to install when it may not install it itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "install-system-packages"


def run(path: Path, *groups: str, **variables: str) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash") or "/bin/bash"
    environment = {"PATH": str(path), "HOME": os.environ.get("HOME", "/"), **variables}
    # The script adds the administrators' folders to PATH; a copy without that line sees only what the test lays out.
    script = "".join(line for line in SCRIPT.read_text().splitlines(keepends=True) if not line.startswith("PATH="))
    return subprocess.run(
        [bash, "-c", script, SCRIPT.name, *groups], env=environment, capture_output=True, text=True, check=False
    )


def lay_out(folder: Path, *programs: str) -> None:
    for program in programs:
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)


def test_nothing_is_said_or_done_when_every_program_is_there(tmp_path: Path) -> None:
    lay_out(tmp_path, "qemu-img", "bwrap", "mke2fs", "openssl")
    result = run(tmp_path, "runtime")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_missing_programs_are_named_in_one_line_when_apt_is_absent(tmp_path: Path) -> None:
    lay_out(tmp_path, "mke2fs")
    result = run(tmp_path, "runtime")
    assert result.returncode == 1
    packages = "qemu-utils bubblewrap openssl"
    assert result.stderr.splitlines() == [f"Please install these packages first (Debian's names): {packages}"]


(FORMATS,) = re.findall(r"^need_formats\(\) \{$(.*?)^\}$", SCRIPT.read_text(), re.DOTALL | re.MULTILINE)
FORMAT_PROGRAMS = re.findall(r"need_program (\S+) \S+", FORMATS)


def test_nothing_is_said_or_done_when_programs_and_boot_files_are_there(tmp_path: Path) -> None:
    lay_out(tmp_path, *FORMAT_PROGRAMS)
    complete = tmp_path / "cache" / "tintype" / "boot-files" / "complete"
    complete.parent.mkdir(parents=True)
    complete.touch()
    result = run(tmp_path, "formats", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_boot_files_are_asked_for_when_apt_is_absent(tmp_path: Path) -> None:
    lay_out(tmp_path, *FORMAT_PROGRAMS)
    result = run(tmp_path, "formats", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert result.returncode == 1
    assert result.stderr.startswith(f"Please unpack these packages below {tmp_path}/cache/tintype/boot-files")
    assert "ipxe memtest86+ linux-image-cloud-amd64" in result.stderr


SERVERS = {"monitoring": ("prometheus", "promtool"), "router": ("nginx",)}


@pytest.mark.parametrize("group", SERVERS)
def test_nothing_is_said_or_done_when_servers_are_there(tmp_path: Path, group: str) -> None:
    lay_out(tmp_path, *SERVERS[group])
    result = run(tmp_path, group, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("group", SERVERS)
def test_servers_are_unpacked_and_not_installed(tmp_path: Path, group: str) -> None:
    """Installed, they would start on this machine."""
    result = run(tmp_path, group, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert result.returncode == 1
    package = SERVERS[group][0]
    folder = tmp_path / "cache" / "tintype" / package
    assert (
        result.stderr == f"Please unpack these packages below {folder}, and make a file 'complete' there: {package}\n"
    )


@pytest.mark.parametrize("group", ["", "qemu", "--help"])
def test_unknown_group_is_refused(tmp_path: Path, group: str) -> None:
    result = run(tmp_path, group)
    assert result.returncode == 2
    assert "no such group" in result.stderr
