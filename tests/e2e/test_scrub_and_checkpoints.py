"""An operator's look at what is kept: stored bytes against their digests, and the log against signed checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import tintype.client.sync
from tests.e2e.stack import Stack

Run = Callable[..., subprocess.CompletedProcess[str]]

UPLOAD = ("--disk-format", "raw", "--container-format", "bare")


@pytest.fixture
def tintype_command(stack: Stack, tmp_path: Path) -> Run:
    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tintype.cli", *arguments]
        environment = {**os.environ, "TINTYPE_CONFIG": str(stack.client_config)}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    return run


def answer(run: Run, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--output", "json", code=code).stdout)


def flip_a_byte(stack: Stack, image_id: str) -> None:
    (path,) = [path for path in (stack.data / "store" / "blobs" / image_id).rglob("*") if path.is_file()]
    with path.open("r+b") as file:
        file.seek(4096)
        byte = file.read(1)
        file.seek(4096)
        file.write(bytes([byte[0] ^ 1]))


def test_a_byte_that_flips_at_rest_is_found_shown_and_never_served(
    tintype_command: Run, stack: Stack, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(3 * 1024 * 1024))
    name = f"image-{uuid.uuid4()}"
    image = answer(tintype_command, "image", "upload", str(disk), "--name", name, *UPLOAD)
    scrub = ("admin", "scrub", "--image", name)
    sound = answer(tintype_command, *scrub)
    assert (sound["copies"], sound["done"], sound["findings"]) == (1, 3 * 1024 * 1024, [])

    flip_a_byte(stack, image["id"])
    done = tintype_command(*scrub, "--rate", "100", "--output", "json", code=5)

    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["image_id"], finding["healed"]) == (image["id"], False)
    assert finding["expected"] == f"sha256:{image['digests']['sha256']}" != finding["found"]
    assert json.loads(done.stderr)["error"]["reason"] == "BLOB_DAMAGED"
    assert "[BLOB_DAMAGED]" in tintype_command(*scrub, code=5).stdout
    shown = answer(tintype_command, "image", "show", name)
    assert shown["damaged_stores"] == shown["stores"]
    assert "damaged_stores" in tintype_command("image", "show", name).stdout
    assert answer(tintype_command, "image", "history", name)[-1]["type"] == "copy_damaged"
    refused = tintype_command("image", "download", name, "--file", str(tmp_path / "copy"), code=5)
    assert "[BLOB_DAMAGED]" in refused.stderr
    assert not (tmp_path / "copy").exists()

    flip_a_byte(stack, image["id"])  # as if it had been put back from a backup
    assert answer(tintype_command, *scrub)["findings"] == []
    assert answer(tintype_command, "image", "show", name)["damaged_stores"] == []
    tintype_command("image", "download", name, "--file", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()


def test_only_an_administrators_command_scrubs_and_only_what_there_is(tintype_command: Run) -> None:
    assert "[STORE_NOT_FOUND]" in tintype_command("admin", "scrub", "--store", "nowhere", code=3).stderr
    assert "[IMAGE_NOT_FOUND]" in tintype_command("admin", "scrub", "--image", str(uuid.uuid4()), code=3).stderr


def test_a_saved_checkpoint_holds_after_more_events(tintype_command: Run, stack: Stack, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(100_000))
    for _ in range(2):
        tintype_command("image", "upload", str(disk), "--name", f"before-{uuid.uuid4()}", *UPLOAD)
    saved, trust = tmp_path / "checkpoint.json", tmp_path / "trust"
    first = wait_for_checkpoint(stack)
    shown = answer(tintype_command, "admin", "checkpoint", "--save", str(saved))
    assert shown["position"] >= first
    assert json.loads(saved.read_text())["payloadType"] == "application/vnd.tintype.checkpoint+json"
    (trust / "service-keys").mkdir(parents=True)
    for certificate in (stack.data / "keys").glob("*.pem"):
        (trust / "service-keys" / certificate.name).write_bytes(certificate.read_bytes())
    tintype_command("image", "upload", str(disk), "--name", f"after-{uuid.uuid4()}", *UPLOAD)

    by_trust = answer(tintype_command, "admin", "check-log", "--since", str(saved), "--trust-store", str(trust))
    assert (by_trust["faults"], by_trust["keys_from"]) == ([], "trust store")
    assert by_trust["covered"] >= shown["position"]
    assert by_trust["head"] > shown["position"]
    told = tintype_command("admin", "check-log", "--since", str(saved))
    assert "--trust-store" in told.stderr
    assert answer(tintype_command, "admin", "check-log")["keys_from"] == "signer"
    earlier = answer(tintype_command, "admin", "checkpoint", "--max-position", str(shown["position"]))
    assert earlier["number"] == shown["number"]

    saved.write_text(saved.read_text().replace('"sig": "', '"sig": "AAAA'))
    forged = tintype_command("admin", "check-log", "--since", str(saved), "--trust-store", str(trust), code=5)
    assert "[CHECKPOINT_INVALID]" in forged.stderr


def test_the_health_of_the_checkpoints_has_a_name_of_its_own(stack: Stack) -> None:
    with tintype.client.sync.connect(stack.client_config) as client:
        address = client.config.signer
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service="tintype.checkpoints"), timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def wait_for_checkpoint(stack: Stack) -> int:
    """Follow the log until the signer has published something; its position."""
    with tintype.client.sync.connect(stack.client_config) as client:
        while True:
            try:
                return client.admin.checkpoint().position
            except tintype.client.NotFoundError:
                client.images.create(name="one more event")
