"""The command that marks a share."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.importer.mark_share import main
from tests.backends.private_mounts import mount, unmount
from tintype.adapters.filesystem.mount_marker import MARKER

pytestmark = pytest.mark.mounts


def settings(directory: Path) -> Path:
    file = directory / "settings.toml"
    file.write_text(f'[stores.main]\npath = "{directory}/share"\nrequire_mount = true\n')
    return file


def test_a_mounted_share_is_marked_once_and_its_id_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    share = tmp_path / "share"
    share.mkdir()
    mount("-t", "tmpfs", "tmpfs", str(share))
    try:
        assert main(["main", "--config", str(settings(tmp_path))]) == 0
        assert main(["main", "--config", str(settings(tmp_path))]) == 0
        first, second = capsys.readouterr().out.split()
        assert first == second
        assert first in (share / MARKER).read_text()
    finally:
        unmount(share)


def test_where_nothing_is_mounted_nothing_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "share"
    bare.mkdir()
    file = settings(tmp_path)
    file.write_text(file.read_text() + f'mount_point = "{bare}"\n')
    assert main(["main", "--config", str(file)]) == 2
    assert "nothing is mounted" in capsys.readouterr().err
    assert list(bare.iterdir()) == []


def test_a_store_that_is_not_set_up_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["other", "--config", str(settings(tmp_path))]) == 2
    assert "stores.other" in capsys.readouterr().err


def test_a_store_that_guards_no_share_is_not_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = settings(tmp_path)
    file.write_text(file.read_text().replace("true", "false"))
    assert main(["main", "--config", str(file)]) == 2
    assert "require_mount" in capsys.readouterr().err
