"""The commands as a user types them, against `tintype up`."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest

from tests.e2e.commands import Run, answer, runner
from tests.e2e.stack import Stack
from tests.e2e.web_source import web_source


@pytest.fixture
def tintype(stack: Stack, tmp_path: Path) -> Run:
    """Runs `tintype WORDS…` in an empty directory, configured by TINTYPE_CONFIG."""
    return runner(stack, tmp_path)


IMPORT = [
    "image",
    "create-via-import",
    "--disk-format",
    "qcow2",
    "--container-format",
    "bare",
    "--visibility",
    "public",
]


def test_an_import_as_a_glance_user_types_it(tintype: Run, disks: Path, tmp_path: Path) -> None:
    name = f"import-{uuid.uuid4()}"
    with web_source(disks) as url:
        web = ["--import-method", "web-download", "--uri", f"{url}/disk.qcow2"]
        tintype(*IMPORT, "--name", name, *web, "--wait")
    image = answer(tintype, "image", "show", name)
    assert (image["status"], image["disk_format"], image["visibility"]) == ("active", "raw", "public")
    assert image["virtual_size"] == image["size"] == (disks / "disk.raw").stat().st_size
    tintype("image", "download", image["id"], "--file", "copy.raw")
    assert (tmp_path / "copy.raw").read_bytes() == (disks / "disk.raw").read_bytes()
    events = [event["type"] for event in answer(tintype, "image", "history", name)]
    assert events == ["created", "import_requested", "staged", "verified", "converted", "attested", "published"]


def test_without_wait_the_id_is_printed_at_once(tintype: Run, disks: Path) -> None:
    with web_source(disks, bytes_per_s=2e6) as url:
        name = f"later-{uuid.uuid4()}"
        web = ["--import-method", "web-download", "--uri", f"{url}/disk.qcow2"]
        printed = tintype(*IMPORT, "--name", name, *web).stdout.strip()
        assert str(uuid.UUID(printed)) == printed
        image = answer(tintype, "image", "show", printed)
        assert image["status"] == "importing"
        tintype("operation", "cancel", image["operation_id"])
    image = answer(tintype, "image", "show", printed)
    assert (image["status"], image["failure"]["reason"]) == ("queued", "CANCELLED")


def test_an_upload_creates_and_uploads_in_one_go_and_is_never_converted(tintype: Run, disks: Path) -> None:
    formats = ["--disk-format", "qcow2", "--container-format", "bare"]
    properties = ["--property", "os_distro=debian", "--property", "hw_cpu_cores=2"]
    file = disks / "disk.qcow2"
    name = f"upload-{uuid.uuid4()}"
    tintype("image", "upload", str(file), "--name", name, *formats, *properties)
    image = answer(tintype, "image", "show", name)
    assert (image["status"], image["disk_format"]) == ("active", "qcow2")
    assert image["digests"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert image["properties"] == {"hw_cpu_cores": 2, "os_distro": "debian"}
    assert [one["id"] for one in answer(tintype, "image", "list", "--name", name)] == [image["id"]]


def test_staged_bytes_are_imported_by_glance_direct(tintype: Run, disks: Path) -> None:
    name = f"direct-{uuid.uuid4()}"
    direct = ["--import-method", "glance-direct", "--file", str(disks / "disk.qcow2")]
    tintype(*IMPORT, "--name", name, *direct, "--wait")
    image = answer(tintype, "image", "show", name)
    assert (image["status"], image["disk_format"]) == ("active", "raw")


def test_an_image_is_changed_and_deleted(tintype: Run) -> None:
    image = answer(tintype, "image", "create", "--name", f"mine-{uuid.uuid4()}")
    tintype("image", "set", image["id"], "--name", f"yours-{image['id']}", "--property", "a=1", "--protected")
    changed = answer(tintype, "image", "show", image["id"])
    assert (changed["name"], changed["properties"], changed["protected"]) == (f"yours-{image['id']}", {"a": "1"}, True)
    refused = tintype("image", "delete", image["id"], code=4)
    assert "IMAGE_PROTECTED" in refused.stderr
    tintype("image", "set", image["id"], "--unprotected")
    tintype("image", "delete", image["id"])
    gone = tintype("image", "show", image["id"], code=3)
    assert "IMAGE_NOT_FOUND" in gone.stderr


def test_a_failed_import_says_why_and_what_to_do(tintype: Run, disks: Path) -> None:
    web = ["--import-method", "web-download"]
    with web_source(disks) as url:
        name = f"bad-{uuid.uuid4()}"
        failed = tintype(*IMPORT, "--name", name, *web, "--uri", f"{url}/disk.raw", "--wait", code=5)
    assert "[FORMAT_MISMATCH]" in failed.stderr
    assert "declare" in failed.stderr.lower()
    image = answer(tintype, "image", "show", name)
    assert (image["status"], image["failure"]["reason"]) == ("queued", "FORMAT_MISMATCH")
    assert answer(tintype, "operation", "show", image["operation_id"])["failure"] == image["failure"]
    assert answer(tintype, "image", "history", name)[-1]["step_failed"]["failure"]["reason"] == "FORMAT_MISMATCH"


def test_the_log_is_whole_and_the_tables_can_be_built_anew(tintype: Run) -> None:
    before = answer(tintype, "image", "list", "--limit", "1000")
    tintype("admin", "rebuild")
    assert answer(tintype, "image", "list", "--limit", "1000") == before
    tintype("admin", "check-log")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_every_shell(tintype: Run, shell: str) -> None:
    assert "tintype" in tintype("--show-completion", shell).stdout.lower()


def test_an_administrator_overrides_what_was_read(tintype: Run, stack: Stack, disks: Path, tmp_path: Path) -> None:
    name = f"facts-{uuid.uuid4()}"
    admin = tmp_path / "admin.toml"
    admin.write_text(stack.client_config.read_text() + "admin = true\n")
    formats = ["--disk-format", "qcow2", "--container-format", "bare"]
    tintype("image", "upload", str(disks / "disk.qcow2"), "--name", name, *formats)
    read = answer(tintype, "image", "show", name)["read_facts"]["qcow2_version"]
    assert read == {"value": 3, "source": "qcow2 header, bytes 4-7"}

    override = ["image", "set", name, "--override", "qcow2_version=2", "--override", "min_disk=20"]
    refused = tintype(*override, code=1)
    assert "[NOT_PERMITTED]" in refused.stderr
    image = answer(tintype, *override, "--config", str(admin))
    assert (image["effective_properties"]["qcow2_version"], image["min_disk"]) == (2, 20)
    assert image["read_facts"]["qcow2_version"] == read
    found = ["image", "list", "--name", name, "--property", "qcow2_version=2"]
    assert [each["id"] for each in answer(tintype, *found)] == [image["id"]]

    assert answer(tintype, "image", "set", name, "--tag", "x")["overrides"] == {"min_disk": 20, "qcow2_version": 2}
    tintype("image", "set", name, "--clear-override", "qcow2_version", "--config", str(admin))
    assert answer(tintype, *found) == []
    events = answer(tintype, "image", "history", name)
    assert [event["updated"]["attributes"]["overrides"] for event in events if event["type"] == "updated"] == [
        {"min_disk": 20, "qcow2_version": 2},
        {"min_disk": 20, "qcow2_version": 2},
        {"min_disk": 20},
    ]
