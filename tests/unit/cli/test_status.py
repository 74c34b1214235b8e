"""`tintype status` as a person and a program read it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from tests.unit.cli.conftest import Tintype
from tests.unit.cli.test_interrupt import start
from tests.unit.client.fake_services import NOW, FakeServices, operation, store
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.importer.v1 import importer_pb2
from tintype.api.runtime.v1 import runtime_pb2
from tintype.api.types.v1 import types_pb2
from tintype.cli.exit_codes import ExitCode
from tintype.cli.status_view import rows_of, shown
from tintype.client import (
    Certificate,
    FailureCount,
    Grade,
    LogReplica,
    LogStatus,
    OperationsStatus,
    Problem,
    ProjectionStatus,
    Queue,
    ServiceInfo,
    ServiceStatus,
    SystemStatus,
)
from tintype.codec import values

NAMES = ("catalog", "importer", "converter", "signer")
AGO = NOW - timedelta(minutes=5)
LOG = LogStatus("2.15.1", "", 1234, AGO, 5 * 1024 * 1024, 1, ())
TABLES = ProjectionStatus(1234, True, 0, 0.0, None, 0)
REPLICA = ServiceInfo("importer", "1.2", "host/1", AGO, True, (), ())
IMPORTER = ServiceStatus("importer", "127.0.0.1:7", True, True, (REPLICA,), None)
ODD = "two\nlines \x1b[31mred\u202e"


def a_status(**changed: object) -> SystemStatus:
    """All is well, but for what is changed."""
    whole: dict[str, object] = {
        "taken_at": NOW,
        "grade": Grade.GOOD,
        "problems": (),
        "services": (IMPORTER,),
        "log": LOG,
        "projection": TABLES,
        "queues": (),
        "images": {},
        "operations": OperationsStatus(0, (), ()),
        "stores": (),
        "unknown": {},
    }
    return SystemStatus(**(whole | changed))  # type: ignore[arg-type]


def text_of(status: SystemStatus, *, width: int = 200, is_terminal: bool = False) -> str:
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=is_terminal, markup=False, highlight=False, emoji=False)
    console.print(shown(status))
    return file.getvalue()


def rows(**changed: object) -> dict[str, list[str]]:
    """The lines under each heading."""
    found: dict[str, list[str]] = {}
    for heading, line in rows_of(a_status(**changed)):
        name = heading or list(found)[-1]
        found.setdefault(name, []).append(line)
    return found


@pytest.fixture
def well(services: FakeServices) -> FakeServices:
    """A deployment in which all is well."""
    services.infos = {
        name: runtime_pb2.ServiceInfo(
            service=name, version="1", instance="a/1", started_at=values.encode_time(NOW), ready=True
        )
        for name in NAMES
    }
    services.stores = [store("main", is_default=True)]
    services.status.projection.caught_up = True
    return services


def test_all_well_is_exit_code_0(tintype: Tintype, well: FakeServices) -> None:
    outcome = tintype("status")

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("All is well  ")
    assert "importer   ready" in re.sub(" +", "   ", outcome.out)
    assert not any(line.endswith(" ") for line in outcome.out.splitlines())


def test_something_bad_has_an_exit_code_of_its_own(tintype: Tintype, well: FakeServices) -> None:
    well.stores = [store("main", mode=importer_pb2.STORE_MODE_AWAY, is_default=True)]
    outcome = tintype("status")

    assert (outcome.code, outcome.err) == (ExitCode.NOT_WELL, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("Not well: 1 bad")
    assert "store main" in lines[1] and "[STORE_READ_ONLY]" in lines[1]


def test_something_doubtful_is_no_failure(tintype: Tintype, well: FakeServices) -> None:
    well.status.projection.parked_events = 2
    outcome = tintype("status")

    assert outcome.code == 0
    assert outcome.out.startswith("Everything works: 1 doubtful")


def test_a_program_reads_everything_under_stable_names(tintype: Tintype, well: FakeServices) -> None:
    answer = tintype("status", "--output", "json").answer

    assert list(answer) == [
        "taken_at",
        "grade",
        "problems",
        "services",
        "log",
        "projection",
        "queues",
        "images",
        "operations",
        "stores",
        "unknown",
    ]
    assert answer["grade"] == "good"
    services = answer["services"]
    assert isinstance(services, list)
    assert list(services[0]) == ["service", "address", "answers", "ready", "replicas", "failure"]


def test_a_program_is_told_what_is_wrong(tintype: Tintype, well: FakeServices) -> None:
    well.unready = {"importer"}
    outcome = tintype("status", "-o", "json")

    assert outcome.code == ExitCode.NOT_WELL
    assert outcome.answer["problems"] == [
        {
            "grade": "bad",
            "part": "importer",
            "message": "is not ready",
            "reason": "NOT_READY",
            "hint": "Its log says why.",
        }
    ]


def test_watch_shows_it_again_and_again_until_ctrl_c(well: FakeServices, config: object) -> None:
    with start("status", "--watch", "--interval", "0.5", "-o", "json") as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(2)
        assert process.wait(timeout=30) == ExitCode.INTERRUPTED
    assert seen[0]["grade"] == seen[1]["grade"] == "good"
    assert seen[0]["taken_at"] < seen[1]["taken_at"]


def test_what_is_wrong_comes_first_with_what_to_do() -> None:
    problems = (
        Problem(Grade.BAD, "store main", "it is gone", "STORE_MISSING", "Make it."),
        Problem(Grade.DOUBTFUL, "queue q", "tried again", "WORK_REPEATED"),
    )
    lines = text_of(a_status(grade=Grade.BAD, problems=problems)).splitlines()

    assert lines[0].startswith("Not well: 1 bad, 1 doubtful")
    assert lines[1].split() == ["bad", "store", "main", "it", "is", "gone", "[STORE_MISSING]"]
    assert lines[2].strip() == "Make it."
    assert lines[3].startswith("doubtful")


def test_colours_are_for_terminals_alone_and_say_nothing_by_themselves() -> None:
    plain, coloured = text_of(a_status()), text_of(a_status(), is_terminal=True)

    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain


def test_nothing_is_cut_where_the_terminal_is_narrow() -> None:
    problem = Problem(
        Grade.BAD, "a part with a long name", "a message of several words", "A_LONG_REASON_WITHOUT_BLANKS"
    )
    text = text_of(a_status(grade=Grade.BAD, problems=(problem,)), width=40)

    assert max(map(len, text.splitlines())) <= 40
    words = text.split()
    assert all(word in words for word in ("part", "long", "name", "several", "words"))
    assert "…" not in text


def test_text_of_others_moves_no_cursor() -> None:
    status = a_status(
        grade=Grade.BAD,
        problems=(Problem(Grade.BAD, ODD, ODD, ODD, ODD),),
        services=(ServiceStatus(ODD, ODD, True, True, (), None),),
        images={ODD: 1},
    )
    text = text_of(status)

    assert "\x1b" not in text and "\u202e" not in text
    assert len(text.splitlines()) == len(text_of(a_status(images={"x": 1})).splitlines()) + 2


def test_a_log_with_copies_says_where_they_are() -> None:
    members = (
        LogReplica("n1", True, True, False, 0),
        LogReplica("n2", False, True, False, 0),
        LogReplica("n3", False, False, True, 9),
    )
    log = LogStatus("2.15.1", "C1", 7, AGO, 2048, 3, members)

    assert rows(log=log)["Log"] == [
        "position 7, 5 min ago; 2.0 KiB; nats-server 2.15.1; 3 copies in C1: n1 (leader), n2, n3 (offline)"
    ]
    assert rows()["Log"] == ["position 1234, 5 min ago; 5.0 MiB; nats-server 2.15.1; 1 copy"]


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        (TABLES, "position 1234, nothing behind"),
        (ProjectionStatus(3, True, 4, 1.25, None, 0), "position 3, 4 events and 1.2 s behind"),
        (ProjectionStatus(3, True, None, None, None, 0), "position 3, nobody knows how far behind"),
        (
            ProjectionStatus(3, False, 4, None, 2, 1),
            "position 3, 4 events behind; catching up; new ones are being built, at 2; 1 events could not be applied",
        ),
    ],
)
def test_tables_say_how_far_they_are(tables: ProjectionStatus, line: str) -> None:
    assert rows(projection=tables)["Tables"] == [line]


def test_queues_with_work_come_first() -> None:
    queues = (Queue("a", 0, 0, 0, 1), Queue("b", 2, 1, 0, 0), Queue("c", 0, 3, 2, 0), Queue("d", 0, 0, 0, 1))

    assert rows(queues=queues)["Queues"] == [
        "c: 0 waiting, 3 in hand, 2 of them again",
        "b: 2 waiting, 1 in hand",
        "empty: a, d",
    ]


def test_operations_say_where_they_stand(services: FakeServices, tintype: Tintype, well: FakeServices) -> None:
    running = operation("5e2f0a1c-0000-4000-8000-000000000000", step=types_pb2.STEP_CONVERT)
    running.progress.CopyFrom(
        types_pb2.Progress(
            image_id=running.image_id,
            project="default",
            operation_id=running.id,
            step=types_pb2.STEP_CONVERT,
            done=1024,
            total=4096,
            time=values.encode_time(NOW),
        )
    )
    well.status.operations.CopyFrom(pb.OperationsStatus(running=7, oldest=[running]))
    out = tintype("status").out

    assert re.search(rf"import of image {running.image_id}, for \d+ d: convert 1.0 KiB of 4.0 KiB", out)
    assert "and 6 more" in out


def test_recent_failures_are_told_by_reason() -> None:
    failures = (FailureCount("DIGEST_MISMATCH", 3, AGO),)

    found = rows(operations=OperationsStatus(0, (), failures))
    assert found["Failed in 24 h"] == ["3 × DIGEST_MISMATCH, the last 5 min ago"]
    assert "Failed in 24 h" not in rows()


def test_certificates_are_told_the_soonest_first() -> None:
    later, sooner = datetime(2027, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    replicas = tuple(
        ServiceInfo("importer", "1", f"h/{number}", AGO, True, (), (Certificate("/a", later), Certificate("/b", end)))
        for number, end in enumerate((later, sooner))
    )

    assert rows(services=(ServiceStatus("importer", "", True, True, replicas, None),))["Certificates"] == [
        "/b: until 2026-06-01T00:00:00Z (importer)",
        "/a: until 2027-01-01T00:00:00Z (importer)",
    ]


def test_the_help_names_the_exit_codes(tintype: Tintype) -> None:
    out = tintype("status", "--help").out

    assert "7    status: something does not work" in out
