"""An image in several stores, as a user and an operator live with it: two that work, and one that takes little."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.e2e.commands import Run, answer, runner
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.nats]

MIB = 1024 * 1024
SMALL_LIMIT = 1 * MIB
"""The store `small` takes no larger object."""

FORMATS = ("--disk-format", "raw", "--container-format", "bare")
DEADLINE_S = 60


def settings(root: Path) -> dict[str, str]:
    """Three stores in directories, and a day in which what is deleted can be restored."""
    stores: dict[str, dict[str, object]] = {
        "main": {"default": "true", "weight": 100, "hand_over": "true", "description": "for all"},
        "second": {"weight": 50},
        "small": {"weight": 10, "max_object_bytes": SMALL_LIMIT},
    }
    found = dict(ENVIRONMENT) | {"TINTYPE_CATALOG__DELETE_DELAY_S": "86400"}
    for name, section in stores.items():
        (root / name).mkdir(mode=0o750)
        for key, value in {"type": "file", "path": root / name, "attempts": 1, **section}.items():
            found[f"TINTYPE_STORES__{name.upper()}__{key.upper()}"] = str(value)
    return found


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the stores' directories."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def several(roots: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with three stores."""
    running = Stack(tmp_path_factory.mktemp("several"), settings(roots))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def tintype(several: Stack, tmp_path: Path) -> Run:
    return runner(several, tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """More than the small store takes."""
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(3 * MIB))
    return path


def a_name() -> str:
    return f"image-{uuid.uuid4()}"


def files(roots: Path, store: str, image_id: str) -> list[Path]:
    """Every file of an image in a store, committed or not."""
    return [path for path in (roots / store).rglob("*") if path.is_file() and image_id in str(path)]


def contents(roots: Path, store: str, image_id: str) -> bytes:
    """The image's only file in a store."""
    (path,) = files(roots, store, image_id)
    return path.read_bytes()


def eventually(what: Callable[[], bool]) -> None:
    """Ask until it is so; each question is a command or a look at a directory."""
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def gone(roots: Path, store: str) -> Iterator[None]:
    """A store whose directory is not there."""
    (roots / store).rename(roots / f"{store}-aside")
    try:
        yield
    finally:
        (roots / f"{store}-aside").rename(roots / store)


def uploaded(tintype: Run, disk: Path, *words: str) -> Any:
    return answer(tintype, "image", "upload", str(disk), "--name", a_name(), *FORMATS, *words)


def is_writable(tintype: Run, store: str) -> Callable[[], bool]:
    return lambda: bool(answer(tintype, "store", "show", store)["mode"] == "read-write")


def test_an_upload_is_written_to_each_store_that_was_named(tintype: Run, roots: Path, disk: Path) -> None:
    image = uploaded(tintype, disk, "--store", "second,main")

    assert (image["status"], sorted(image["stores"]), image["failed_stores"]) == ("active", ["main", "second"], [])
    assert contents(roots, "main", image["id"]) == contents(roots, "second", image["id"]) == disk.read_bytes()
    assert files(roots, "small", image["id"]) == []


def test_whoever_names_no_store_gets_the_default_one(tintype: Run, disk: Path) -> None:
    assert uploaded(tintype, disk)["stores"] == ["main"]


def test_an_import_into_all_stores_tells_the_one_that_takes_no_more(tintype: Run, roots: Path, disk: Path) -> None:
    name = a_name()
    words = ("image", "create-via-import", "--name", name, *FORMATS, "--file", str(disk), "--all-stores", "--wait")
    told = tintype(*words)

    assert "small: " in told.stderr and "[STORE_OBJECT_TOO_LARGE]" in told.stderr
    image = answer(tintype, "image", "show", name)
    assert (image["status"], sorted(image["stores"])) == ("active", ["main", "second"])
    (failed,) = image["failed_stores"]
    assert (failed["store"], failed["failure"]["reason"]) == ("small", "STORE_OBJECT_TOO_LARGE")
    assert contents(roots, "main", image["id"]) == contents(roots, "second", image["id"])
    assert files(roots, "small", image["id"]) == []


def test_an_import_goes_where_it_is_told_and_nowhere_else(tintype: Run, roots: Path, disk: Path) -> None:
    image = answer(tintype, "image", "create", "--name", a_name(), *FORMATS)
    words = ("image", "import", image["id"], "--file", str(disk), "--store", "second", "--wait")

    assert answer(tintype, *words)["stores"] == ["second"]
    eventually(lambda: files(roots, "main", image["id"]) == [])


def test_a_store_that_was_away_gets_its_copy_later(tintype: Run, roots: Path, disk: Path) -> None:
    with gone(roots, "second"):
        image = uploaded(tintype, disk, "--store", "main,second")
        assert (image["status"], image["stores"]) == ("active", ["main"])
        (failed,) = image["failed_stores"]
        assert (failed["store"], failed["failure"]["reason"]) == ("second", "STORE_MISSING")
        assert "STORE_MISSING" in tintype("image", "show", image["id"]).stdout

    eventually(is_writable(tintype, "second"))
    copied = answer(tintype, "image", "copy", image["id"], "--store", "second")
    assert (sorted(copied["stores"]), copied["failed_stores"]) == (["main", "second"], [])
    assert contents(roots, "second", image["id"]) == disk.read_bytes()
    events = [event["type"] for event in answer(tintype, "image", "history", image["id"])]
    assert events[-2:] == ["copy_requested", "placed"]
    again = tintype("image", "copy", image["id"], "--store", "second", code=4)
    assert "[COPY_EXISTS]" in again.stderr


@pytest.mark.parametrize("words", [["image", "upload"], ["image", "create-via-import", "--wait", "--file"]])
def test_all_or_none_fails_with_the_reason_and_leaves_nothing(
    tintype: Run, roots: Path, disk: Path, words: list[str]
) -> None:
    image_id = str(uuid.uuid4())
    code = 1 if words[1] == "upload" else 5
    stores = ("--store", "main,small", "--all-stores-must-succeed")
    refused = tintype(*words, str(disk), "--id", image_id, *FORMATS, *stores, code=code)

    assert "[STORE_OBJECT_TOO_LARGE]" in refused.stderr
    assert answer(tintype, "image", "show", image_id)["status"] == "queued"
    eventually(lambda: all(files(roots, store, image_id) == [] for store in ("main", "second", "small")))


def test_an_image_is_read_from_the_store_that_is_left(tintype: Run, roots: Path, disk: Path, tmp_path: Path) -> None:
    image = uploaded(tintype, disk, "--store", "main,second")

    with gone(roots, "main"):
        tintype("image", "download", image["id"], "--file", "copy")
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()
    eventually(is_writable(tintype, "main"))


def test_a_copy_is_deleted_and_never_the_last_one(tintype: Run, roots: Path, disk: Path) -> None:
    image = uploaded(tintype, disk, "--store", "main,second")

    left = answer(tintype, "image", "delete", image["id"], "--store", "main")
    assert (left["status"], left["stores"]) == ("active", ["second"])
    eventually(lambda: files(roots, "main", image["id"]) == [])
    refused = tintype("image", "delete", image["id"], "--store", "second", code=4)
    assert "[LAST_COPY]" in refused.stderr
    assert contents(roots, "second", image["id"]) == disk.read_bytes()


def test_a_deleted_image_comes_back_whole_until_it_is_deleted_for_good(
    tintype: Run, roots: Path, disk: Path, tmp_path: Path
) -> None:
    image = uploaded(tintype, disk, "--store", "main,second")

    assert "tintype image restore" in tintype("image", "delete", image["id"]).stderr
    tintype("image", "show", image["id"], code=3)
    restored = answer(tintype, "image", "restore", image["id"])
    assert (restored["status"], sorted(restored["stores"])) == ("active", ["main", "second"])
    tintype("image", "download", image["id"], "--file", "copy")
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()

    tintype("image", "delete", image["id"])
    tintype("image", "delete", image["id"], "--now")
    eventually(lambda: files(roots, "main", image["id"]) == files(roots, "second", image["id"]) == [])
    assert "[RESTORE_TOO_LATE]" in tintype("image", "restore", image["id"], code=4).stderr


def test_a_store_that_hands_over_tells_where_an_image_is(tintype: Run, disk: Path) -> None:
    image = uploaded(tintype, disk, "--store", "main,second")

    (location,) = answer(tintype, "--admin", "image", "locations", image["id"], "--expires-in", "1h")

    assert (location["store"], location["kind"]) == ("main", "file")
    assert Path(unquote(urlsplit(location["url"]).path)).read_bytes() == disk.read_bytes()


def test_bytes_that_nobody_wants_are_told_and_then_removed(tintype: Run, roots: Path, disk: Path) -> None:
    image = uploaded(tintype, disk, "--store", "main,second")
    (blob,) = files(roots, "second", image["id"])
    orphan_id = str(uuid.uuid4())
    orphan = Path(str(blob).replace(image["id"], orphan_id))
    orphan.parent.mkdir(parents=True, mode=0o750)
    orphan.write_bytes(disk.read_bytes())
    old = time.time() - 30 * 86400
    os.utime(orphan, (old, old))

    dry = answer(tintype, "admin", "sweep", "--store", "second", "--dry-run")
    (found,) = [each for each in dry["findings"] if each["image_id"] == orphan_id]
    assert (found["kind"], found["removed"], found["size"]) == ("orphan", False, 3 * MIB)
    assert orphan.exists()

    swept = answer(tintype, "admin", "sweep", "--store", "second")
    (found,) = [each for each in swept["findings"] if each["image_id"] == orphan_id]
    assert (found["kind"], found["removed"]) == ("orphan", True)
    assert not orphan.exists()
    assert contents(roots, "second", image["id"]) == disk.read_bytes()


def test_a_sweep_fails_for_a_copy_that_is_lost(tintype: Run, roots: Path, disk: Path) -> None:
    image = uploaded(tintype, disk, "--store", "main,second")
    (blob,) = files(roots, "second", image["id"])
    blob.unlink()

    done = tintype("admin", "sweep", "--dry-run", "--output", "json", code=5)

    lost = [each for each in json.loads(done.stdout)["findings"] if each["kind"] == "missing"]
    assert [(each["store"], each["image_id"]) for each in lost] == [("second", image["id"])]
    assert json.loads(done.stderr)["error"]["reason"] == "BLOB_NOT_FOUND"
    tintype("image", "delete", image["id"], "--now")


def test_stores_are_listed_shown_and_checked(tintype: Run, roots: Path) -> None:
    stores = answer(tintype, "store", "list")
    assert [(each["name"], each["is_default"], each["kind"]) for each in stores] == [
        ("main", True, "file"),
        ("second", False, "file"),
        ("small", False, "file"),
    ]
    main = answer(tintype, "store", "show", "main")
    assert (main["mode"], main["description"], main["handover"]) == ("read-write", "for all", "file")
    assert 0 < main["free_bytes"] <= main["total_bytes"]
    assert {each["grade"] for each in answer(tintype, "store", "check", "main")} <= {"good", "doubtful"}
    with gone(roots, "small"):
        bad = tintype("store", "check", "small", "--output", "json", code=1)
        assert "bad" in {each["grade"] for each in json.loads(bad.stdout)}
        assert json.loads(bad.stderr)["error"]["reason"] == "STORE_CHECK_FAILED"
    for words in (["store", "show"], ["store", "check"], ["admin", "sweep", "--store"]):
        assert "[STORE_NOT_FOUND]" in tintype(*words, "elsewhere", code=3).stderr


def test_a_store_that_is_not_there_is_refused_before_any_byte(tintype: Run, disk: Path) -> None:
    refused = tintype("image", "upload", str(disk), "--name", a_name(), *FORMATS, "--store", "elsewhere", code=3)

    assert "[STORE_NOT_FOUND]" in refused.stderr
