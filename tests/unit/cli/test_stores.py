"""What a user types about several stores: where images go, what becomes of copies, how stores are, what is swept."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from shlex import split

import pytest

from tests.unit.cli.conftest import Tintype
from tests.unit.cli.test_commands import DISK, FORMATS, finish, rows_of
from tests.unit.client.fake_services import FakeServices, store
from tests.unit.client.test_images import event
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.events.v1 import events_pb2
from tintype.api.importer.v1 import importer_pb2
from tintype.api.types.v1 import types_pb2
from tintype.cli.exit_codes import ExitCode

FULL = types_pb2.Failure(reason="STORE_FULL", message="no room", hint="Make room.", retryable=True)


@pytest.fixture(autouse=True)
def disk(config: Path) -> None:
    Path("disk").write_bytes(DISK)


def asked(services: FakeServices) -> list[types_pb2.Placement]:
    """Which placements were asked for, in order."""
    found = [request for request in services.requests if "placement" in request.DESCRIPTOR.fields_by_name]
    return [request.placement for request in found]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "placement"),
    [
        ("--store a,b", types_pb2.Placement(stores=["a", "b"])),
        ("--store b --store a,b", types_pb2.Placement(stores=["b", "a"])),
        ("--all-stores", types_pb2.Placement(in_all=True)),
        ("--store a --all-stores-must-succeed", types_pb2.Placement(stores=["a"], all_must_succeed=True)),
        ("", types_pb2.Placement()),
    ],
)
def test_every_command_that_brings_bytes_takes_stores(
    tintype: Tintype, services: FakeServices, options: str, placement: types_pb2.Placement
) -> None:
    image = services.add_image("there")
    services.stores = [store("a"), store("b")]
    for words in (
        f"image upload disk {FORMATS} --no-wait",
        f"image create-via-import new {FORMATS} --file disk",
        f"image create-via-import new {FORMATS} --uri https://example.org/disk",
        f"image import {image.id}",
        f"image import {image.id} --file disk",
    ):
        assert tintype(*split(words), *split(options)).code == ExitCode.OK

    # What is staged is staged where it will be wanted.
    assert asked(services) == [placement] * 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--store a --all-stores", "give one of them"),
        ("--store a,,b", "a store's name is empty"),
        ("--all-stores-must-succeed", "is about several stores"),
    ],
)
@pytest.mark.parametrize("words", [f"image upload disk {FORMATS}", f"image create-via-import x {FORMATS} --file disk"])
def test_what_contradicts_itself_is_refused_before_an_image_is_made(
    tintype: Tintype, services: FakeServices, words: str, options: str, said: str
) -> None:
    outcome = tintype(*split(words), *split(options))

    assert outcome.code == ExitCode.USAGE
    assert said in " ".join(outcome.err.replace("│", " ").split())
    assert services.requests == []


def test_an_import_takes_a_source_or_what_was_staged(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")
    assert tintype("image", "import", "x").out == f"{image.id}\n"
    assert tintype("image", "import", "x", "--uri", "https://example.org/disk").code == ExitCode.OK

    first, second = (request.source for request in services.requests if isinstance(request, pb.ImportImageRequest))
    assert (first.method, first.uri) == (types_pb2.IMPORT_METHOD_GLANCE_DIRECT, "")
    assert (second.method, second.uri) == (types_pb2.IMPORT_METHOD_WEB_DOWNLOAD, "https://example.org/disk")
    assert services.uploads == {}
    for wrong in ("--uri https://x/y --file disk", "--import-method web-download", "--sign --uri https://x/y"):
        assert tintype("image", "import", "x", *split(wrong)).code == ExitCode.USAGE


def test_a_store_that_failed_is_told_and_how_to_try_again(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x", data=DISK)
    image.failed_stores.add(store="s3", failure=FULL)
    finish(services, image.id, pb.OPERATION_STATE_SUCCEEDED)

    outcome = tintype("image", "import", "x", "--all-stores", "--wait")

    assert outcome.code == ExitCode.OK
    assert ["failed_stores", "s3: no room [STORE_FULL]"] in rows_of(outcome.out)
    assert f"tintype image copy {image.id} --store s3" in outcome.err
    programs = tintype("image", "show", "x", "-o", "json").answer
    failure = {"reason": "STORE_FULL", "message": "no room", "hint": "Make room.", "retryable": True, "evidence": {}}
    assert programs["failed_stores"] == [{"store": "s3", "failure": failure}]


def test_a_copy_is_followed_and_shows_the_image(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x", data=DISK)
    image.stores.append("a")
    finish(services, image.id, pb.OPERATION_STATE_SUCCEEDED)

    outcome = tintype("image", "copy", "x", "--store", "b", "-o", "json")

    assert (outcome.code, outcome.answer["stores"]) == (ExitCode.OK, ["a", "b"])
    assert tintype("image", "copy", "x", "--store", "c", "--no-wait").out == f"{image.id}\n"
    assert tintype("image", "copy", "x").code == ExitCode.USAGE
    again = tintype("image", "copy", "x", "--store", "a", "-o", "json")
    assert (again.code, again.error["reason"]) == (ExitCode.CONFLICT, "COPY_EXISTS")


def test_a_copy_that_failed_is_a_failure(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x", data=DISK)
    finish(services, image.id, pb.OPERATION_STATE_FAILED)

    assert tintype("image", "copy", "x", "--store", "b").code == ExitCode.CONTENT


def test_a_copy_is_deleted_and_never_the_last_one(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x", data=DISK)
    image.stores.extend(["a", "b"])

    assert tintype("image", "delete", "x", "--store", "a", "-o", "json").answer["stores"] == ["b"]
    last = tintype("image", "delete", "x", "--store", "b", "-o", "json")
    assert (last.code, last.error["reason"]) == (ExitCode.CONFLICT, "LAST_COPY")
    assert tintype("image", "delete", "x", "--store", "elsewhere").code == ExitCode.NOT_FOUND
    assert tintype("image", "delete", "x", "--store", "b", "--now").code == ExitCode.USAGE
    assert image.id in services.images


def test_a_deleted_image_comes_back_until_its_bytes_go(tintype: Tintype, services: FakeServices) -> None:
    services.delays_deletion = True
    image = services.add_image("x", data=DISK)

    deleted = tintype("image", "delete", "x")
    assert deleted.out == f"{image.id}\n"
    assert f"until 2026-01-02T03:04:05Z it can be restored: tintype image restore {image.id}" in deleted.err
    assert tintype("image", "restore", image.id, "-o", "json").answer["status"] == "active"
    assert tintype("image", "delete", image.id, "--now").err == ""
    assert tintype("image", "restore", image.id).code == ExitCode.NOT_FOUND


def test_several_images_are_restored_at_once(tintype: Tintype, services: FakeServices) -> None:
    ids = [services.add_image(name, data=DISK).id for name in "xy"]

    assert tintype("image", "restore", *ids).out.split() == ids
    assert [image["id"] for image in json.loads(tintype("image", "restore", *ids, "-o", "json").out)] == ids


def test_restoring_tells_what_does_not_come_back(tintype: Tintype) -> None:
    help_text = " ".join(tintype("image", "restore", "--help").out.split())

    assert "An upload or an import that was running when the image was deleted does not come back" in help_text


@pytest.mark.parametrize(("text", "seconds"), [("", 0), ("900", 900), ("90s", 90), ("15m", 900), ("1h", 3600)])
def test_locations_expire_when_it_is_said(tintype: Tintype, services: FakeServices, text: str, seconds: int) -> None:
    image = services.add_image("x", data=DISK)
    services.locations = [importer_pb2.ImageLocation(store="nfs", kind="file", url="file:///x")]

    outcome = tintype("image", "locations", "x", *(["--expires-in", text] if text else []))

    assert ["nfs", "file", "file:///x", "never"] in rows_of(outcome.out)
    request = importer_pb2.ListImageLocationsRequest(image_id=image.id, expires_in_s=seconds)
    assert services.requests[-1] == request


@pytest.mark.parametrize("text", ["0", "-1", "1w", "h", "1.5h", "9" * 30, "\u0661h"])
def test_what_is_no_time_is_wrong_usage(tintype: Tintype, services: FakeServices, text: str) -> None:
    assert tintype("image", "locations", str(uuid.uuid4()), f"--expires-in={text}").code == ExitCode.USAGE
    assert services.requests == []


def test_an_image_that_no_store_hands_over_says_so(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x", data=DISK)

    assert "download the image" in tintype("image", "locations", image.id).err
    assert json.loads(tintype("image", "locations", image.id, "-o", "json").out) == []


def with_stores(services: FakeServices) -> None:
    """One that works, and one that does not."""
    away = types_pb2.Failure(reason="STORE_MISSING", message="no such bucket", hint="Make it.")
    services.stores = [
        store("main", is_default=True, weight=10, free_bytes=2 * 1024**3, total_bytes=0, description="for all"),
        store("s3", mode=importer_pb2.STORE_MODE_AWAY, failure=away),
    ]


def test_stores_are_listed_with_how_they_are(tintype: Tintype, services: FakeServices) -> None:
    with_stores(services)

    rows = rows_of(tintype("store", "list").out)

    assert ["main", "file", "yes", "10", "read-write", "2.0 GiB", "0 B", "for all"] in rows
    assert ["s3", "file", "", "0", "away [STORE_MISSING]", "", "", ""] in rows
    told = json.loads(tintype("store", "list", "-o", "json").out)
    assert [(each["name"], each["mode"], each["free_bytes"]) for each in told] == [
        ("main", "read-write", 2 * 1024**3),
        ("s3", "away", None),
    ]


def test_one_store_is_shown_with_its_reason(tintype: Tintype, services: FakeServices) -> None:
    with_stores(services)

    rows = rows_of(tintype("store", "show", "s3").out)

    assert ["failure", "no such bucket [STORE_MISSING]"] in rows
    assert ["hint", "Make it."] in rows
    assert ["free_bytes", "2147483648 (2.0 GiB)"] in rows_of(tintype("store", "show", "main").out)
    absent = tintype("store", "show", "elsewhere", "-o", "json")
    assert (absent.code, absent.error["reason"]) == (ExitCode.NOT_FOUND, "STORE_NOT_FOUND")


def finding(grade: importer_pb2.Grade.ValueType) -> importer_pb2.StoreFinding:
    return importer_pb2.StoreFinding(name="room", grade=grade, found="it is so", advice="mend it")


@pytest.mark.parametrize(
    ("grade", "code"),
    [
        (importer_pb2.GRADE_GOOD, ExitCode.OK),
        (importer_pb2.GRADE_DOUBTFUL, ExitCode.OK),
        (importer_pb2.GRADE_BAD, ExitCode.REFUSED),
    ],
)
def test_a_check_fails_where_a_finding_is_bad(
    tintype: Tintype, services: FakeServices, grade: importer_pb2.Grade.ValueType, code: ExitCode
) -> None:
    with_stores(services)
    services.findings = [finding(importer_pb2.GRADE_GOOD), finding(grade)]
    word = importer_pb2.Grade.Name(grade).removeprefix("GRADE_").lower()

    outcome = tintype("store", "check", "main")

    assert outcome.code == code
    assert rows_of(outcome.out)[-1] == ["room", word, "it is so", "mend it"]
    assert services.metadata["tintype-admin"] == "true"
    programs = tintype("store", "check", "main", "-o", "json")
    assert [each["grade"] for each in json.loads(programs.out)] == ["good", word]
    if code:
        assert programs.error["reason"] == "STORE_CHECK_FAILED"


def test_a_store_that_is_not_there_is_not_checked(tintype: Tintype) -> None:
    assert tintype("store", "check", "elsewhere").code == ExitCode.NOT_FOUND


def swept(kind: str, *, removed: bool = False, failure: types_pb2.Failure | None = None) -> importer_pb2.SweepResponse:
    number = importer_pb2.SweepFindingKind.Value(f"SWEEP_FINDING_KIND_{kind}")
    found = importer_pb2.SweepFinding(
        store="main", key="i/o/final", image_id="i", size=4096, kind=number, removed=removed, failure=failure
    )
    return importer_pb2.SweepResponse(blobs=7, finding=found)


def test_a_sweep_tells_what_it_removed(tintype: Tintype, services: FakeServices) -> None:
    services.swept = [swept("ORPHAN", removed=True), swept("SPARED"), importer_pb2.SweepResponse(blobs=9)]

    outcome = tintype("admin", "sweep")

    assert outcome.code == ExitCode.OK
    assert ["9", "2", "1", "4.0 KiB"] in rows_of(outcome.out)
    assert ["main", "orphan", "removed", "4.0 KiB", "i", "i/o/final"] in rows_of(outcome.out)
    assert ["main", "spared", "left", "4.0 KiB", "i", "i/o/final"] in rows_of(outcome.out)
    told = tintype("admin", "sweep", "-o", "json").answer
    assert told["blobs"] == 9
    assert services.requests[-1] == importer_pb2.SweepRequest()


def test_a_dry_sweep_removes_nothing_and_says_what_it_would(tintype: Tintype, services: FakeServices) -> None:
    services.swept = [swept("UNWANTED")]

    outcome = tintype("admin", "sweep", "--store", "main", "--dry-run")

    assert outcome.code == ExitCode.OK
    assert "would be removed" in outcome.out
    assert services.requests[-1] == importer_pb2.SweepRequest(store="main", dry_run=True)


@pytest.mark.parametrize(
    ("findings", "code", "reason"),
    [
        ([swept("MISSING")], ExitCode.CONTENT, "BLOB_NOT_FOUND"),
        ([swept("ORPHAN", failure=FULL)], ExitCode.UNAVAILABLE, "STORE_FULL"),
        ([swept("UNSPECIFIED", failure=FULL), swept("MISSING")], ExitCode.CONTENT, "BLOB_NOT_FOUND"),
    ],
)
def test_a_sweep_fails_for_what_it_could_not_mend(
    tintype: Tintype,
    services: FakeServices,
    findings: list[importer_pb2.SweepResponse],
    code: ExitCode,
    reason: str,
) -> None:
    services.swept = findings

    outcome = tintype("admin", "sweep", "-o", "json")

    assert (outcome.code, outcome.error["reason"]) == (code, reason)
    assert outcome.answer["blobs"] == 7


def test_a_history_tells_of_copies(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")
    wanted, placed, removed, deleted = (event(image.id, position) for position in (1, 2, 3, 4))
    operation, ref = str(uuid.uuid4()), types_pb2.BlobRef(store="b", key=f"{image.id}/{uuid.uuid4()}/final")
    asked_for = types_pb2.Placement(stores=["b", "c"])
    wanted.copy_requested.CopyFrom(events_pb2.CopyRequested(operation_id=operation, placement=asked_for))
    failed = types_pb2.FailedStore(store="c", failure=FULL)
    placed.placed.CopyFrom(events_pb2.ImagePlaced(operation_id=operation, copies=[ref], failed_stores=[failed]))
    removed.copy_removed.CopyFrom(events_pb2.CopyRemoved(ref=ref))
    deleted.deleted.purge_after.FromJsonString("2026-02-01T00:00:00Z")
    services.events = [wanted, placed, removed, deleted]

    rows = {row[2]: row[4] for row in rows_of(tintype("image", "history", image.id).out)}

    assert rows["copy_requested"] == "b, c"
    assert rows["placed"] == "b; not in c [STORE_FULL]"
    assert rows["copy_removed"] == "b"
    assert rows["deleted"] == "can be restored until 2026-02-01T00:00:00Z"


@pytest.mark.parametrize("words", ["upload disk", "create-via-import x --uri https://example.org/disk"])
def test_no_image_is_made_for_a_store_that_there_is_not(tintype: Tintype, services: FakeServices, words: str) -> None:
    services.stores = [store("a")]
    outcome = tintype("image", *split(words), *split("--disk-format raw --container-format bare --store a,nope"))

    assert outcome.code == ExitCode.NOT_FOUND
    assert "STORE_NOT_FOUND" in outcome.err
    assert not services.images
