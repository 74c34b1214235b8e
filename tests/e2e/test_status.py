"""`tintype status` on a whole stack: all well, a service or NATS frozen, a store away, work in hand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.frozen import freeze
from tests.e2e.commands import Run, runner
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.stack import Stack
from tests.e2e.web_source import web_source
from tintype.cli.exit_codes import ExitCode

DEADLINE_S = 60


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, parts of which a test freezes or takes away, and gives back."""
    stack = Stack(tmp_path_factory.mktemp("troubled"), ENVIRONMENT)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture
def tintype(troubled: Stack, tmp_path: Path) -> Run:
    return runner(troubled, tmp_path)


def status_of(tintype: Run, code: int = 0) -> dict[str, Any]:
    """The answer in JSON; the command has to end with the code."""
    answer: dict[str, Any] = json.loads(tintype("status", "-o", "json", code=code).stdout)
    return answer


def wrong(status: dict[str, Any]) -> set[tuple[str, str]]:
    """What is bad: the part, and the reason."""
    return {(each["part"], each["reason"]) for each in status["problems"] if each["grade"] == "bad"}


def until(look: Callable[[], Any]) -> Any:
    """What ``look`` returns once that is something."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < deadline
    return found


def well_again(tintype: Run) -> None:
    """Wait until nothing is wrong: the next test begins like the first one."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(AssertionError):
            tintype("status")
            return
        assert time.monotonic() < deadline, tintype("status", code=ExitCode.NOT_WELL).stdout


@contextlib.contextmanager
def frozen(stack: Stack, name: str) -> Iterator[None]:
    """While a process is there, and does not answer."""
    pid = stack.pids()[name]
    freeze(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_all_is_well_on_a_fresh_stack(tintype: Run) -> None:
    well_again(tintype)
    status = status_of(tintype)

    assert (status["grade"], status["problems"], status["unknown"]) == ("good", [], {})
    assert {each["service"]: each["ready"] for each in status["services"]} == dict.fromkeys(
        ("catalog", "importer", "converter", "signer"), True
    )
    assert all(len(each["replicas"]) == 1 and each["replicas"][0]["checks"] for each in status["services"])
    assert {queue["name"] for queue in status["queues"]} >= {"importer", "converter", "signer", "publisher"}
    assert tintype("status").stdout.startswith("All is well")


def test_a_service_that_does_not_answer_hides_no_other(troubled: Stack, tintype: Run) -> None:
    with frozen(troubled, "importer"):
        status = status_of(tintype, ExitCode.NOT_WELL)
    well_again(tintype)

    assert [part for part, _ in wrong(status)] == ["importer"]
    away = {each["service"] for each in status["services"] if not each["answers"]}
    assert away == {"importer"}
    assert status["stores"] is None
    assert status["projection"]["caught_up"]


def test_while_the_catalog_does_not_answer_the_others_are_shown(troubled: Stack, tintype: Run) -> None:
    with frozen(troubled, "catalog"):
        status = status_of(tintype, ExitCode.NOT_WELL)
    well_again(tintype)

    assert {part for part, _ in wrong(status)} == {"catalog"}
    assert {each["service"] for each in status["services"] if each["ready"]} == {"importer", "converter", "signer"}
    assert status["stores"][0]["mode"] == "read-write"
    assert {failure["message"] for failure in status["unknown"].values()} == {"the catalog does not answer"}


def test_while_nats_does_not_answer_the_tables_are_shown(troubled: Stack, tintype: Run) -> None:
    with frozen(troubled, "nats"):
        status = status_of(tintype, ExitCode.NOT_WELL)
    well_again(tintype)

    assert status["log"] is None and status["queues"] is None
    assert status["projection"]["lag_events"] is None
    assert status["images"] is not None


def test_a_store_that_is_away_is_told_with_what_to_do(troubled: Stack, tintype: Run) -> None:
    store, aside = troubled.data / "store", troubled.data / "store-aside"

    def reasons() -> set[tuple[str, str]]:
        with contextlib.suppress(AssertionError):
            return wrong(status_of(tintype, ExitCode.NOT_WELL))
        return set()

    store.rename(aside)
    try:
        found = until(lambda: [reason for part, reason in reasons() if "store local" in part])
        shown = tintype("status", code=ExitCode.NOT_WELL).stdout
    finally:
        aside.rename(store)
    well_again(tintype)

    assert found == ["STORE_MISSING"]
    assert "tintype store check" in shown


def test_work_in_hand_and_running_operations_are_shown(tintype: Run, disks: Path) -> None:
    with web_source(disks, bytes_per_s=2e6) as url:
        web = ["--import-method", "web-download", "--uri", f"{url}/disk.qcow2"]
        formats = ["--disk-format", "qcow2", "--container-format", "bare"]
        name = f"status-{uuid.uuid4()}"
        image = tintype("image", "create-via-import", "--name", name, *formats, *web).stdout.strip()
        status = until(lambda: _working(status_of(tintype)))
        shown = tintype("status").stdout
        operation = status["operations"]["oldest"][0]
        tintype("operation", "cancel", operation["id"])

    assert (operation["image_id"], operation["step"], status["operations"]["running"]) == (image, "stage", 1)
    assert status["images"]["importing"] == 1
    assert "importer: 0 waiting, 1 in hand" in shown
    assert f"import of image {image}" in shown


def _working(status: dict[str, Any]) -> dict[str, Any] | None:
    is_in_hand = any(queue["name"] == "importer" and queue["in_hand"] for queue in status["queues"])
    return status if is_in_hand and status["operations"]["oldest"] else None
