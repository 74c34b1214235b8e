"""`tintype inspect`: offline, its verdict in words, in JSON and in the exit code."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.cli.conftest import Outcome
from tintype.cli import inspect
from tintype.cli.app import app
from tintype.cli.exit_codes import MEANINGS, REFUSALS, ExitCode, refusal_code
from tintype.domain import errors
from tintype.testing.handmade import qcow2
from tintype.testing.handmade_iso import iso
from tintype.testing.hostile import hostile_images

Inspect = Callable[..., Outcome]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "image"


@pytest.fixture
def tintype_inspect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Path) -> Inspect:
    """The command on the image: without any configuration, so that it can reach no service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINTYPE_CONFIG", str(tmp_path / "absent.toml"))

    def run(*options: str) -> Outcome:
        result = CliRunner().invoke(app, ["inspect", str(image), *options], prog_name="tintype")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


ONE_OF_EACH = {image.error: name for name, image in hostile_images().items()}


@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_a_refused_image_tells_its_reason_and_ends_with_the_code_of_its_class(
    tintype_inspect: Inspect, image: Path, name: str
) -> None:
    hostile = hostile_images()[name]
    image.write_bytes(hostile.build())
    limits = {"--max-virtual-size": hostile.max_virtual_size, "--max-allocation-ratio": hostile.max_allocation_ratio}
    options = {"--format": hostile.declared, **limits}
    given = [word for option, value in options.items() if value is not None for word in (option, str(value))]

    outcome = tintype_inspect(*given, "--guest-digest", "-o", "json")

    answer = outcome.answer
    assert (answer["safe"], answer["reason"]) == (False, hostile.error.reason)
    assert hostile.error.hint in str(answer["explanation"])
    assert (answer["facts"], answer["virtual_size"], answer["guest_digest"]) == ({}, None, None)
    assert outcome.code == REFUSALS[hostile.error]


def test_a_safe_image_is_told_with_its_facts_and_where_they_were_read(tintype_inspect: Inspect, image: Path) -> None:
    image.write_bytes(qcow2())

    outcome = tintype_inspect("-o", "json", "--format", "qcow2")

    answer = outcome.answer
    assert outcome.code == ExitCode.OK
    assert list(answer) == ["format", "safe", "reason", "explanation", "opinions", "virtual_size", "facts"]
    assert (answer["format"], answer["safe"], answer["reason"], answer["explanation"]) == ("qcow2", True, None, None)
    assert answer["opinions"] == {"tintype": "qcow2", "oslo.utils": "qcow2"}
    assert isinstance(answer["virtual_size"], int)
    assert answer["facts"]["qcow2_version"] == {"value": 3, "source": "qcow2 header, bytes 4-7"}  # type: ignore[index]


def test_a_person_reads_a_table(tintype_inspect: Inspect, image: Path) -> None:
    image.write_bytes(qcow2())

    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tintype_inspect().out.splitlines()]

    assert ["qcow2_version", "3", "qcow2 header, bytes 4-7"] in shown
    assert ["qcow2_cluster_size_bytes", "4096 (4.0 KiB)", "qcow2 header, bytes 20-23"] in shown
    assert "reason" not in [row[0] for row in shown if row]


def test_who_may_hold_a_kernel_is_told_how_to_look_for_one(tintype_inspect: Inspect, image: Path) -> None:
    image.write_bytes(bytes(4096))
    assert "--format aki" in tintype_inspect("--no-contents").err
    assert tintype_inspect("--format", "raw").err == ""

    image.write_bytes(qcow2())
    assert tintype_inspect().err == ""


def test_a_refusal_is_an_answer_and_no_error(tintype_inspect: Inspect, image: Path) -> None:
    image.write_bytes(b"")

    outcome = tintype_inspect()

    assert outcome.code == ExitCode.MALFORMED
    assert "EMPTY_IMAGE" in outcome.out
    assert outcome.err == ""


def test_what_an_image_says_cannot_move_the_cursor(tintype_inspect: Inspect, image: Path) -> None:
    image.write_bytes(hostile_images()["qcow2: backing file"].build())

    for output in ("table", "json", "yaml"):
        assert "\x1b" not in tintype_inspect("-o", output).out


def test_contents_are_looked_for_unless_told_otherwise(tintype_inspect: Inspect, image: Path) -> None:
    disk = bytearray(64 * 1024)
    disk[446:462] = bytes([0x80, 0, 0, 0, 0x83, 0, 0, 0]) + (8).to_bytes(4, "little") + (64).to_bytes(4, "little")
    disk[510:512] = b"\x55\xaa"
    image.write_bytes(disk)

    facts = tintype_inspect("-o", "json").answer["facts"]
    assert facts["partition_table"]["value"] == "mbr"  # type: ignore[index]
    assert "partition_table" not in tintype_inspect("-o", "json", "--no-contents").answer["facts"]  # type: ignore[operator]


def test_a_guest_digest_that_cannot_be_is_null_and_a_note_says_why(tintype_inspect: Inspect, image: Path) -> None:
    image.write_bytes(iso())

    outcome = tintype_inspect("--format", "iso", "--guest-digest", "-o", "json", "--no-contents")

    assert outcome.code == ExitCode.OK
    assert outcome.answer["guest_digest"] is None
    assert outcome.err.startswith("no guest digest: ")


def test_the_image_inside_of_a_compressed_file_is_told(tintype_inspect: Inspect, image: Path) -> None:
    image.write_bytes(gzip.compress(qcow2()))

    outcome = tintype_inspect("--format", "qcow2", "--guest-digest", "-o", "json")

    assert outcome.code == ExitCode.OK
    assert (outcome.answer["format"], outcome.answer["guest_digest"]) == ("qcow2", None)
    assert outcome.answer["facts"]["compression"]["value"] == "gzip"  # type: ignore[index]
    assert outcome.err == "no guest digest: decompress the image first\n"


def test_what_no_import_decompresses_is_refused_for_what_it_is(tintype_inspect: Inspect, image: Path) -> None:
    image.write_bytes(bytes.fromhex("04224d18") + bytes(4096))

    outcome = tintype_inspect("-o", "json")

    assert outcome.answer["safe"] is False
    assert "lz4" in str(outcome.answer["explanation"])


def test_an_image_that_is_refused_is_refused_inside_of_a_compressed_file(tintype_inspect: Inspect, image: Path) -> None:
    hostile = hostile_images()["qcow2: backing file"]
    image.write_bytes(gzip.compress(hostile.build()))

    assert tintype_inspect("-o", "json").code == ExitCode.UNSAFE_REFERENCE


@pytest.mark.parametrize("make", [None, Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_is_no_file_cannot_be_read(
    tintype_inspect: Inspect, image: Path, make: Callable[[Path], None] | None
) -> None:
    if make:
        make(image)

    outcome = tintype_inspect("-o", "json")

    assert outcome.code == ExitCode.REFUSED
    assert outcome.error["reason"] == "LOCAL_FILE"
    assert outcome.out == ""


def test_a_link_is_followed(tintype_inspect: Inspect, image: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(bytes(4096))
    image.symlink_to("target")

    outcome = tintype_inspect("-o", "json", "--guest-digest")

    assert outcome.code == ExitCode.OK
    assert str(outcome.answer["guest_digest"]).startswith("guest-disk-v1:")


def test_a_file_of_holes_is_not_read(tintype_inspect: Inspect, image: Path) -> None:
    with image.open("wb") as file:
        file.write(b"\1")
        file.truncate(1 << 40)  # to read it would take minutes

    answer = tintype_inspect("--guest-digest", "-o", "json").answer

    assert (answer["format"], answer["safe"], answer["virtual_size"]) == ("raw", True, 1 << 40)


def test_without_the_extra_it_says_which_to_install(
    tintype_inspect: Inspect, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "_NEEDED", ("not_a_package",))
    image.write_bytes(qcow2())

    outcome = tintype_inspect("-o", "json")

    assert outcome.code == ExitCode.REFUSED
    assert outcome.error["reason"] == "INSPECT_MISSING"
    assert "tintype[inspect]" in str(outcome.error["hint"])


def test_it_needs_nothing_that_speaks_to_a_service(image: Path) -> None:
    image.write_bytes(qcow2())
    absent = ("aiohttp", "grpc", "google.protobuf", "nats", "sqlalchemy", "structlog")
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from tintype.cli.__main__ import main\n"
        f"sys.argv = ['tintype', 'inspect', {str(image)!r}, '--guest-digest', '-o', 'json']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=60)

    assert done.returncode == ExitCode.OK, done.stderr
    assert json.loads(done.stdout)["format"] == "qcow2"


def test_every_class_of_refusal_is_in_the_commands_help() -> None:
    shown = CliRunner().invoke(app, ["inspect", "--help"], prog_name="tintype").stdout

    for code in {ExitCode.OK, ExitCode.REFUSED, *REFUSALS.values()}:
        assert f"{code.value:<4} {MEANINGS[code]}" in shown


def test_no_refusal_passes_for_safe() -> None:
    refusals = [kind for kind in errors.every_error() if issubclass(kind, errors.RefusedContentError)]

    codes = {refusal_code(kind("x")) for kind in refusals}

    assert codes == {ExitCode.CONTENT, *REFUSALS.values()}


def test_every_refusal_of_a_format_has_the_code_of_a_class() -> None:
    from tintype.inspect.registry import known_formats

    declared = {rule.error for entry in known_formats().values() for rule in entry.rules}

    assert declared <= set(REFUSALS)
