"""Commands as a user types them: what they print, and how they end."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from shlex import split

import pytest

from tests.unit.cli.conftest import Tintype
from tests.unit.client.fake_services import FakeServices, operation
from tests.unit.client.test_images import event
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.events.v1 import events_pb2
from tintype.api.importer.v1 import importer_pb2
from tintype.api.types.v1 import types_pb2
from tintype.cli.exit_codes import MEANINGS, ExitCode, exit_code
from tintype.client import errors as client_errors
from tintype.codec import values
from tintype.domain import errors
from tintype.domain.values import Fact, PropertyValue

DISK = b"disk" * 1000
FORMATS = "--disk-format raw --container-format bare"
ABSENT = str(uuid.uuid4())


def finish(services: FakeServices, image_id: str, state: pb.OperationState.ValueType) -> str:
    """An operation of the image that goes through a step, and ends."""
    name = str(uuid.uuid4())
    failure = types_pb2.Failure(reason="FORMAT_MISMATCH", message="it is raw", hint="declare raw")
    return services.add_operation(
        operation(image_id, name=name, step=types_pb2.STEP_STAGE),
        operation(image_id, name=name, state=state, failure=failure if state == pb.OPERATION_STATE_FAILED else None),
    )


def test_a_created_image_is_printed_in_the_apis_words(tintype: Tintype) -> None:
    image = tintype(
        *split("image create debian --disk-format qcow2 --container-format bare --visibility public"),
        *split("--min-disk 2 --tag a --tag b --property os_distro=debian --property x=a=b --output json"),
    ).answer

    assert set(image) == {field.name for field in pb.Image.DESCRIPTOR.fields if not field.GetOptions().deprecated}
    assert (image["name"], image["status"], image["disk_format"]) == ("debian", "queued", "qcow2")
    assert (image["visibility"], image["min_disk"], image["size"]) == ("public", 2, None)
    assert image["properties"] == {"os_distro": "debian", "x": "a=b"}
    assert image["created_at"] == "2026-01-02T03:04:05Z"
    assert image["tags"] == ["a", "b"]


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("flag", ["--output", "-o"])
def test_the_output_format_may_stand_before_and_after_the_command(tintype: Tintype, place: str, flag: str) -> None:
    words = [flag, "json", "image", "create", "x"] if place == "before" else ["image", "create", "x", flag, "json"]

    assert tintype(*words).answer["name"] == "x"


@pytest.mark.parametrize(
    "words",
    [
        "image create x --min-disk",
        "image create x --min-ram",
        "image create-via-import x --uri https://example.org/disk --expected-size",
        "image list --limit",
        "image watch --after",
        "events follow --after",
        "image download x --file disk --offset",
        "image download x --file disk --length",
    ],
)
def test_a_number_that_no_message_can_carry_is_wrong_usage(tintype: Tintype, words: str) -> None:
    outcome = tintype(*split(words), str(2**63))

    assert outcome.code == ExitCode.USAGE
    assert f"'{words.split()[-1]}'" in outcome.err


def test_an_image_that_has_its_bytes_is_not_said_to_have_none(tintype: Tintype, services: FakeServices) -> None:
    Path("disk").write_bytes(DISK)
    image = services.add_image("full")
    services.faults.refuse_write = errors.ImageHasDataError("it has its bytes already")
    outcome = tintype("image", "upload", "disk", "--image", image.id)

    assert outcome.code == ExitCode.CONFLICT
    assert "has no bytes" not in outcome.err


def test_yaml_is_yaml(tintype: Tintype) -> None:
    assert "name: x\nstatus: queued\n" in tintype("image", "create", "--name", "x", "-o", "yaml").out


def test_a_list_is_an_array_even_when_it_is_empty(tintype: Tintype, services: FakeServices) -> None:
    assert json.loads(tintype("image", "list", "-o", "json").out) == []
    services.add_image("one")
    assert [image["name"] for image in json.loads(tintype("image", "list", "-o", "json").out)] == ["one"]


def test_a_lists_options_become_a_filter_and_an_order(tintype: Tintype, services: FakeServices) -> None:
    arguments = (
        "image list --status active --name n --tag t --property k=v --sort name:asc,size:desc --limit 5 --hidden"
    )
    assert tintype(*split(arguments), "--filter", "size>1").code == 0

    request = services.requests[0]
    assert isinstance(request, pb.ListImagesRequest)
    assert (
        request.filter == 'name="n" AND status="active" AND tag="t" AND hidden="true" AND properties.k="v" AND size>1'
    )
    assert (request.order_by, request.page_size) == ("name, size desc", 5)


def test_a_table_is_not_cut_for_a_program(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("n" * 200)

    assert f"| {image.id} | {'n' * 200} | queued |" in tintype("image", "list").out


def test_a_name_cannot_move_the_cursor(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("\x1b[2Jgone\u202e\x9b")

    for arguments in (["list"], ["show", image.id], ["list", "-o", "json"], ["list", "-o", "yaml"]):
        shown = tintype("image", *arguments).out
        assert "gone" in shown
        assert not {"\x1b", "\u202e", "\x9b"} & set(shown)


def test_an_image_is_shown_by_its_name(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("debian")

    assert tintype("image", "show", "debian", "-o", "json").answer["id"] == image.id


def test_a_name_that_two_images_have_is_a_conflict(tintype: Tintype, services: FakeServices) -> None:
    ids = [services.add_image("debian").id for _ in range(2)]

    outcome = tintype("image", "show", "debian")

    assert outcome.code == ExitCode.CONFLICT
    assert all(name in outcome.err for name in ids)
    assert "[NAME_NOT_UNIQUE]\nhint: Give the id" in outcome.err


def test_as_of_takes_a_time(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")

    assert tintype("image", "show", image.id, "--as-of", "2026-01-02T04:00:00+01:00").code == 0
    request = services.requests[-1]
    assert isinstance(request, pb.GetImageRequest)
    assert request.as_of.ToJsonString() == "2026-01-02T03:00:00Z"
    assert tintype("image", "show", image.id, "--as-of", "yesterday").code == ExitCode.USAGE


def test_set_changes_what_is_given(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")
    image.tags[:] = ["keep", "drop"]
    image.properties["old"].string_value = "1"
    services.faults.conflicts = 2

    arguments = "--name y --property new=2 --remove-property old --tag add --remove-tag drop --protected --no-hidden"
    changed = tintype("image", "set", image.id, *split(arguments), "-o", "json").answer

    assert (changed["name"], changed["tags"], changed["properties"]) == ("y", ["add", "keep"], {"new": "2"})
    assert (changed["protected"], changed["hidden"]) == (True, False)


def test_set_overrides_and_clears(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")
    image.overrides["old"].string_value = "1"

    arguments = "--override min_disk=20 --override os_type=a=b --clear-override old"
    changed = tintype("image", "set", "x", *split(arguments), "-o", "json").answer

    assert changed["overrides"] == {"min_disk": "20", "os_type": "a=b"}
    outcome = tintype("image", "set", "x", "--override", "novalue")
    assert outcome.code == ExitCode.USAGE
    assert "--override 'novalue' is not KEY=VALUE" in outcome.err


def with_facts(services: FakeServices) -> None:
    """An image of which some is read, some is its owner's, and some is overridden."""
    image = services.add_image("x")
    read: dict[str, PropertyValue] = {"a": "read", "b": "read", "c": "read", "min_disk": 4}
    overrides: dict[str, PropertyValue] = {"c": "admin", "e": True, "min_ram": 512}
    effective: dict[str, PropertyValue] = {"a": "read", "b": "owner", "c": "admin", "d": "owner", "e": True}
    facts = {key: Fact(value, "the header") for key, value in read.items()}
    image.MergeFrom(
        pb.Image(
            read_facts=values.encode_facts(facts),
            properties=values.encode_properties(dict.fromkeys("bcd", "owner")),
            overrides=values.encode_properties(overrides),
            effective_properties=values.encode_properties(effective),
        )
    )
    image.min_disk, image.min_ram, image.guest_digest = 4, 512, "guest-disk-v1:00"


def test_a_person_is_shown_what_counts_and_where_it_comes_from(tintype: Tintype, services: FakeServices) -> None:
    with_facts(services)

    shown = {key: told for key, *told in rows_of(tintype("image", "show", "x").out)}

    assert {key: shown[key] for key in "abcde"} == {
        "a": ["read", "the header"],
        "b": ["owner", "the owner; read was read from the header"],
        "c": ["admin", "overridden; the owner says owner; read was read from the header"],
        "d": ["owner", "the owner"],
        "e": ["true", "overridden"],
    }
    assert shown["min_disk"] == ["4 (read from the header)"]
    assert shown["min_ram"] == ["512 (overridden)"]
    assert shown["guest_digest"] == ["guest-disk-v1:00"]
    assert not {"read_facts", "overrides", "effective_properties", "properties"} & set(shown)


def test_a_person_is_not_shown_what_is_empty_and_reads_sizes_and_hints(
    tintype: Tintype, services: FakeServices
) -> None:
    image = services.add_image("x")
    image.size = 3 * 1024**3
    image.failure.CopyFrom(types_pb2.Failure(reason="TRUNCATED", message="it ends early", hint="Get it again."))
    for number in (10, 2):
        image.properties[f"partition_{number}"].string_value = "p"

    shown = rows_of(tintype("image", "show", "x").out)

    assert ["size", "3221225472 (3.0 GiB)"] in shown
    failure = shown.index(["failure", "it ends early [TRUNCATED]"])
    assert shown[failure + 1] == ["hint", "Get it again."]
    assert not {"virtual_size", "tags", "verification", "digests"} & {key for key, *_ in shown}
    assert [key for key, *_ in shown if key.startswith("partition_")] == ["partition_2", "partition_10"]


def rows_of(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| ")]


def test_the_history_tells_which_overrides_there_are(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")
    updated = events_pb2.ImageUpdated(changed=["overrides", "name"])
    for key, value in (("min_disk", "20"), ("os_distro", "debian")):
        updated.attributes.overrides[key].string_value = value
    told = event(image.id, 1)
    told.updated.CopyFrom(updated)
    services.events = [told]

    assert "overrides: min_disk=20, os_distro=debian, name" in tintype("image", "history", image.id).out


@pytest.mark.parametrize("words", ["--admin image show x", "image show x --admin"])
def test_an_administrator_says_so_before_or_behind_the_command(
    tintype: Tintype, services: FakeServices, words: str
) -> None:
    services.add_image("x")

    assert tintype(*split(words)).code == ExitCode.OK
    assert services.metadata["tintype-admin"] == "true"
    assert tintype("image", "show", "x").code == ExitCode.OK
    assert "tintype-admin" not in services.metadata


@pytest.mark.parametrize(
    "words", ["image upload disk --name x --disk-format raw", "image create-via-import --file disk"]
)
def test_without_formats_no_image_is_made_for_the_bytes(tintype: Tintype, services: FakeServices, words: str) -> None:
    Path("disk").write_bytes(DISK)

    outcome = tintype(*split(words))

    assert outcome.code == ExitCode.USAGE
    assert "--disk-format and a --container-format" in outcome.err
    assert services.images == {}


def test_a_program_is_told_facts_overrides_and_what_counts(tintype: Tintype, services: FakeServices) -> None:
    with_facts(services)

    image = tintype("image", "show", "x", "-o", "json").answer

    assert image["read_facts"]["a"] == {"value": "read", "source": "the header"}  # type: ignore[index]
    assert image["overrides"] == {"c": "admin", "e": True, "min_ram": 512}
    assert image["effective_properties"]["c"] == "admin"  # type: ignore[index]
    assert image["guest_digest"] == "guest-disk-v1:00"


def test_info_tells_what_is_done_with_imports(tintype: Tintype, services: FakeServices) -> None:
    services.plugins = [
        importer_pb2.PluginState(plugin=types_pb2.IMPORT_PLUGIN_DECOMPRESSION, enabled=True, description="gzip and xz"),
        importer_pb2.PluginState(plugin=types_pb2.IMPORT_PLUGIN_INJECTION, description="nothing"),
    ]

    assert tintype("info", "-o", "json").answer == {
        "import_plugins": [
            {"plugin": "decompression", "enabled": True, "description": "gzip and xz"},
            {"plugin": "injection", "enabled": False, "description": "nothing"},
        ]
    }
    assert "| injection     | disabled | nothing      |" in tintype("info").out


def test_delete_takes_several(tintype: Tintype, services: FakeServices) -> None:
    first, second = services.add_image("a"), services.add_image("b")

    assert tintype("image", "delete", "a", second.id).out.split() == [first.id, second.id]
    assert services.images == {}


def test_upload_creates_and_sends_in_one_go(tintype: Tintype, services: FakeServices, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(DISK)

    done = tintype(
        *split("image upload disk.raw --no-wait --name n --disk-format raw --container-format bare --property a=b")
    )

    assert done.code == 0
    assert done.out.strip() in services.images
    assert services.uploads["upload-0"].data == DISK
    assert services.images[done.out.strip()].properties["a"].string_value == "b"


def test_upload_reads_standard_input(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")

    assert tintype("image", "upload", "-", "--no-wait", "--image", "x", stdin=DISK).out.strip() == image.id
    assert services.uploads["upload-0"].data == DISK


def test_upload_of_a_missing_file_makes_no_image(tintype: Tintype, services: FakeServices) -> None:
    outcome = tintype("image", "upload", "absent", "-o", "json")

    assert outcome.code == ExitCode.REFUSED
    assert outcome.error["reason"] == "LOCAL_FILE"
    assert services.images == {}


def test_import_prints_the_id_at_once(tintype: Tintype, services: FakeServices) -> None:
    outcome = tintype(
        *split("image create-via-import --disk-format qcow2 --container-format bare --name N --visibility public"),
        *split("--import-method web-download --uri http://example.org/disk --expected-size 5"),
    )

    request = services.requests[-1]
    assert isinstance(request, pb.ImportImageRequest)
    assert outcome.out.strip() == request.image_id
    assert (request.source.uri, request.source.expected_size) == ("http://example.org/disk", 5)
    assert request.source.method == types_pb2.IMPORT_METHOD_WEB_DOWNLOAD


# A packet of the right kind: whether it is a key is the service's to find out.
KEY = b"\xc6\x03\x04ab"
ORIGIN = "--checksums-url http://example.org/SUMS --publisher-key key"


def test_an_import_asks_for_its_origin(tintype: Tintype, services: FakeServices, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    command = f"image create-via-import N --uri http://example.org/disk {FORMATS} {ORIGIN}"

    assert tintype(*split(f"{command} --checksums-signature-url http://example.org/SUMS.sign")).code == 0

    request = services.requests[-1]
    assert isinstance(request, pb.ImportImageRequest)
    assert request.source.checksums == types_pb2.SignedChecksums(
        uri="http://example.org/SUMS", signature_uri="http://example.org/SUMS.sign", publisher_key=KEY
    )


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ("--uri http://example.org/disk --checksums-url http://example.org/SUMS", KEY),
        ("--uri http://example.org/disk --publisher-key key", KEY),
        ("--uri http://example.org/disk --checksums-signature-url http://example.org/SUMS.sign", KEY),
        (f"--uri http://example.org/disk/ {ORIGIN}", KEY),
        (f"--file key {ORIGIN}", KEY),
        (f"--uri http://example.org/disk {ORIGIN}", b"no key"),
        (f"--uri http://example.org/disk {ORIGIN}", b""),
        (f"--uri http://example.org/disk {ORIGIN}", b"\xc5\x03\x04ab"),  # a secret key
        (f"--uri http://example.org/disk {ORIGIN}", b"\xc6\x03\x04ab" * 20_000),
    ],
)
def test_an_origin_that_cannot_be_asked_for_makes_no_image(
    tintype: Tintype, services: FakeServices, tmp_path: Path, options: str, key: bytes
) -> None:
    (tmp_path / "key").write_bytes(key)

    assert tintype(*split(f"image create-via-import N {FORMATS} {options}")).code == ExitCode.USAGE

    assert services.images == {}


def test_a_direct_import_stages_its_file(tintype: Tintype, services: FakeServices, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(DISK)

    assert tintype(*split(f"image create-via-import N --import-method glance-direct --file disk {FORMATS}")).code == 0

    purposes = [
        request.purpose for request in services.requests if isinstance(request, importer_pb2.StartUploadRequest)
    ]
    assert purposes == [2]
    assert services.uploads["upload-0"].data == DISK
    request = services.requests[-1]
    assert isinstance(request, pb.ImportImageRequest)
    assert request.source.method == types_pb2.IMPORT_METHOD_GLANCE_DIRECT


@pytest.mark.parametrize(
    ("state", "code"),
    [(pb.OPERATION_STATE_SUCCEEDED, ExitCode.OK), (pb.OPERATION_STATE_FAILED, ExitCode.CONTENT)],
)
def test_wait_ends_as_the_operation_does(
    tintype: Tintype, services: FakeServices, state: pb.OperationState.ValueType, code: ExitCode
) -> None:
    image_id = str(uuid.uuid4())
    finish(services, image_id, state)

    outcome = tintype(
        *split(f"image create-via-import --id {image_id} --uri http://example.org/disk --wait {FORMATS} -o json")
    )

    assert outcome.code == code
    if code == ExitCode.OK:
        assert outcome.answer["id"] == image_id
    else:
        error = {"reason": "FORMAT_MISMATCH", "message": "it is raw", "hint": "declare raw", "retryable": False}
        assert outcome.error == {**error, "evidence": {"image_id": image_id}}  # a script may try that image again


def test_download_verifies_and_writes(tintype: Tintype, services: FakeServices, tmp_path: Path) -> None:
    services.add_image("x", data=DISK)

    assert tintype("image", "download", "x", "--file", "copy").out == ""
    assert (tmp_path / "copy").read_bytes() == DISK
    assert tintype("image", "download", "x", "--file", "-", "--offset", "4", "--length", "8").out == "diskdisk"


def test_a_damaged_download_fails(tintype: Tintype, services: FakeServices, tmp_path: Path) -> None:
    services.add_image("x", data=DISK)
    services.faults.damaged_reads = True

    assert tintype("image", "download", "x", "--file", "copy").code == ExitCode.CONTENT
    assert not (tmp_path / "copy").exists()


def test_a_history_is_a_timeline(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")
    services.events = [event(image.id, 1), event(image.id, 2)]

    found = json.loads(tintype("image", "history", image.id, "-o", "json").out)

    assert [(each["version"], each["type"]) for each in found] == [(1, "created"), (2, "created")]
    assert found[0]["created"]["attributes"]["name"] == "n1"
    assert (
        "| 1       | 2026-01-02T03:04:05Z | created | a     | n1     | 1        |"
        in tintype("image", "history", "x").out
    )


def test_a_watch_prints_one_object_a_line(tintype: Tintype, services: FakeServices) -> None:
    image = services.add_image("x")
    services.events = [event(image.id, 1), event(image.id, 2)]

    outcome = tintype("image", "watch", image.id, "--after", "0", "-o", "json")

    assert [json.loads(line)["position"] for line in outcome.out.splitlines()] == [1, 2]
    assert outcome.code == ExitCode.UNAVAILABLE


def test_operations_are_shown_and_cancelled(tintype: Tintype, services: FakeServices) -> None:
    running = services.add_operation(operation(str(uuid.uuid4()), step=types_pb2.STEP_CONVERT))

    shown = tintype("operation", "show", running, "-o", "json").answer
    assert (shown["state"], shown["step"], shown["kind"]) == ("running", "convert", "import")
    assert set(shown) == {field.name for field in pb.Operation.DESCRIPTOR.fields}
    assert tintype("operation", "cancel", running, "-o", "json").answer["state"] == "cancelled"


def test_a_rebuild_tells_that_it_switched(tintype: Tintype) -> None:
    assert tintype("admin", "rebuild", "-o", "json").answer["switched"] is True


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["image", "show", ABSENT], ExitCode.NOT_FOUND),
        (["image", "show", "no such name"], ExitCode.NOT_FOUND),
        (["operation", "show", ABSENT], ExitCode.NOT_FOUND),
        (["image", "create", "--disk-format", "floppy"], ExitCode.USAGE),
        (["image", "create", "--property", "novalue"], ExitCode.USAGE),
        (["image", "create", "a", "--name", "b"], ExitCode.USAGE),
        (["image", "create-via-import", "--import-method", "web-download"], ExitCode.USAGE),
        (["image", "create-via-import", "--import-method", "glance-direct", "--uri", "http://x"], ExitCode.USAGE),
        (["image", "upload", "x", "--image", "y", "--name", "z"], ExitCode.USAGE),
        (["image", "create", "nul\0"], ExitCode.REFUSED),
        (["--config", "absent.toml", "image", "list"], ExitCode.USAGE),
        (["admin", "check-log"], ExitCode.USAGE),
    ],
)
def test_a_failure_has_its_exit_code(tintype: Tintype, arguments: list[str], code: ExitCode) -> None:
    outcome = tintype(*arguments)

    assert outcome.code == code
    assert outcome.out == ""
    assert outcome.err


def test_a_service_that_does_not_answer_is_unavailable(tintype: Tintype, config: Path) -> None:
    config.write_text('[client]\ncatalog = "127.0.0.1:1"\nretry_s = 0.1\n')

    outcome = tintype("image", "list", "-o", "json")

    assert outcome.code == ExitCode.UNAVAILABLE
    assert (outcome.error["reason"], outcome.error["retryable"]) == ("UNAVAILABLE", True)


def test_every_exit_code_is_in_the_help(tintype: Tintype) -> None:
    shown = tintype("--help").out

    for code, meaning in MEANINGS.items():
        assert f"{code.value:<4} {meaning}" in shown


def test_every_error_has_an_exit_code_of_failure() -> None:
    codes = {exit_code(kind.__new__(kind)) for kind in client_errors.every_error()}

    assert ExitCode.OK not in codes
    assert codes >= {ExitCode.REFUSED, ExitCode.USAGE, ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.CONTENT}
