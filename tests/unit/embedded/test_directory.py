"""One supervisor per directory, ports that stay, logs that end."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from tintype.domain.errors import ConfigurationError
from tintype.embedded import directory as directory_module
from tintype.embedded.directory import StackDirectory, write_atomically

NAMES = ("nats", "catalog", "importer")


def test_second_supervisor_is_kept_out(tmp_path: Path) -> None:
    first, second = StackDirectory(tmp_path), StackDirectory(tmp_path)
    with first.held(), pytest.raises(ConfigurationError, match="another"), second.held():
        raise AssertionError("two supervisors hold one directory")


def test_directory_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with StackDirectory(tmp_path / "data").held():
            assert (tmp_path / "data" / "store").is_dir()


def test_directory_is_its_owners_alone(tmp_path: Path) -> None:
    with StackDirectory(tmp_path / "data").held():
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError), StackDirectory(tmp_path / "file" / "data").held():
        raise AssertionError("a file is no directory")


def test_ports_are_distinct_and_stay(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path)
    first = directory.ports(NAMES)
    assert len(set(first.values())) == len(NAMES)
    assert directory.ports(NAMES) == first


def test_port_that_another_program_has_taken_is_replaced(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path)
    first = directory.ports(NAMES)
    with socket.create_server(("127.0.0.1", first["catalog"])):
        second = directory.ports(NAMES)
    assert second["catalog"] != first["catalog"]
    assert second["nats"] == first["nats"]


@pytest.mark.parametrize("content", ["", "nonsense", "[1]", '{"nats": "x", "catalog": -1, "importer": 99999}'])
def test_damaged_file_of_ports_is_no_obstacle(tmp_path: Path, content: str) -> None:
    (tmp_path / "ports.json").write_text(content)
    assert set(StackDirectory(tmp_path).ports(NAMES)) == set(NAMES)


def test_log_over_its_bound_is_moved_aside_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "MAX_LOG_BYTES", 10)
    directory = StackDirectory(tmp_path)
    with directory.held(), directory.log_file("catalog").open("ab", buffering=0) as log:
        log.write(b"a long line\n")
        directory.bound_logs()
        log.write(b"next\n")
        assert directory.log_file("catalog").read_bytes() == b"next\n"
        assert (directory.logs / "catalog.log.1").read_bytes() == b"a long line\n"


def test_files_are_written_whole_and_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["client.toml"]
