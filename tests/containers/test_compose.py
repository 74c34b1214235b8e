"""The composed deployment: one endpoint over TLS, the whole road of an image behind it, and nothing left in the end."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.containers import ContainerEngine
from tests.backends.podman import STAND_INS
from tests.containers.confined import running
from tests.containers.deployed import Deployment, new_deployment

DISK_BYTES = 64 * 1024 * 1024
SERVICES = ("catalog", "importer", "converter", "signer")
CALL_WITHOUT_CERTIFICATE = """
import socket, ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2"])
connection = context.wrap_socket(socket.create_connection(("catalog", 9292), 5))
connection.send(b"PRI * HTTP/2.0")
try:
    print("RESULT", "answered" if connection.recv(1) else "shut")
except (ssl.SSLError, ConnectionError):
    print("RESULT", "refused")
"""


def make_publisher(directory: Path) -> None:
    """A publisher's key, and his certificate where the signer looks for it."""
    key, certificate = directory / "publisher.key", directory / "certificates" / "publisher.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Publisher"]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    key.chmod(0o600)
    certificate.chmod(0o644)
    certificate.parent.chmod(0o755)


@pytest.fixture(scope="module")
def deployment(engine: ContainerEngine, images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("deployment")
    made = new_deployment(
        engine, directory, "tintype-test", TINTYPE_ALLOWED_HOSTS="source", PROFILES="prometheus", TINTYPE_IMAGES=images
    )
    make_publisher(directory)
    try:
        made.make("up")
        yield made
    finally:
        made.make("down", PURGE="1")


@pytest.fixture(scope="module")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with a file system in it, in a directory that anybody may read."""
    directory = tmp_path_factory.mktemp("served")
    directory.chmod(0o755)
    raw = tmp_path_factory.mktemp("made") / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(DISK_BYTES)
    mke2fs = shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin")
    assert mke2fs
    subprocess.run([mke2fs, "-q", "-t", "ext4", str(raw)], check=True)
    made = directory / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(made)], check=True)
    made.chmod(0o644)
    return made


@pytest.fixture
def source(deployment: Deployment, qcow2: Path) -> Iterator[str]:
    """Where the deployment finds the disk."""
    options: dict[str, Any] = {
        "entrypoint": ["python3", "-m", "http.server", "80"],
        "volumes": {str(qcow2.parent): {"bind": "/served", "mode": "ro"}},
        "working_dir": "/served",
    }
    with running(deployment.engine, STAND_INS["base"], **options) as server:
        network = deployment.engine.client().networks.get(f"{deployment.project}_default")
        network.connect(server, aliases=["source"])
        yield f"http://source/{qcow2.name}"


def test_an_import_is_converted_and_signed_through_the_one_endpoint(
    deployment: Deployment, source: str, qcow2: Path, tmp_path: Path
) -> None:
    key = str(deployment.directory / "publisher.key")
    signature = deployment.answer("image", "sign", str(qcow2), "--key", key, "--certificate-id", "publisher")
    properties = [word for name, value in signature.items() for word in ("--property", f"{name}={value}")]
    command = "image create-via-import --disk-format qcow2 --container-format bare --name imported --wait"
    method = ("--import-method", "web-download", "--uri", source)
    imported = deployment.tintype(*command.split(), *properties, *method)
    assert imported.returncode == 0, imported.stderr

    (image,) = deployment.answer("image", "list", "--name", "imported")
    assert (image["status"], image["disk_format"]) == ("active", "raw")
    assert image["verification"]["certificate_id"] == "publisher"

    copy, trust = tmp_path / "copy.raw", tmp_path / "trust"
    assert deployment.tintype("key", "export", str(trust)).returncode == 0
    shutil.copy(deployment.directory / "certificates/publisher.pem", trust)
    download = ("image", "download", image["id"], "--file", str(copy), "--verify", "--trust-store", str(trust))
    proven = deployment.answer(*download)
    assert proven["custody"]["signer"]["certificate_id"] == "publisher"
    compared = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(qcow2), str(copy)]
    assert subprocess.run(compared, check=False, capture_output=True).returncode == 0


def test_an_upload_is_signed_by_the_service_and_the_log_is_sound(deployment: Deployment, qcow2: Path) -> None:
    formats = ("--disk-format", "qcow2", "--container-format", "bare")
    uploaded = deployment.tintype("image", "upload", str(qcow2), "--name", "uploaded", *formats, "--sign")
    assert uploaded.returncode == 0, uploaded.stderr
    checked = deployment.tintype("admin", "check-log")
    assert checked.returncode == 0, checked.stderr


def test_nobody_is_served_without_a_token(deployment: Deployment, tmp_path: Path) -> None:
    secrets = deployment.directory / "secrets"
    config = tmp_path / "client.toml"
    for token in ("", 'token = "tintype_of_nobody"'):
        endpoint = deployment.environment["TINTYPE_LISTEN"]
        config.write_text(f'[client]\nendpoint = "{endpoint}"\ntls = true\nca = "{secrets / "ca.crt"}"\n{token}\n')
        refused = deployment.tintype("image", "list", config=config)
        assert refused.returncode != 0
        assert "UNAUTHENTICATED" in refused.stderr.upper()


def test_services_are_called_by_the_router_alone(deployment: Deployment) -> None:
    """Without a certificate of the deployment's authority no handshake ends well."""
    network = f"{deployment.project}_default"
    options: dict[str, Any] = {
        "entrypoint": ["python3", "-c"],
        "command": [CALL_WITHOUT_CERTIFICATE],
        "network": network,
    }
    with running(deployment.engine, STAND_INS["base"], **options) as stranger:
        stranger.wait(timeout=60)
        said = stranger.logs().decode()
    assert said.strip() in ("RESULT refused", "RESULT shut")


def test_no_secret_is_told_by_the_engine_or_the_logs(deployment: Deployment) -> None:
    secrets = deployment.directory / "secrets"
    kept = [
        (secrets / path).read_text().strip() for path in ("operator/token", "postgresql/password", "grafana/password")
    ]
    client = deployment.engine.client()
    for container in client.containers.list(filters={"label": f"com.docker.compose.project={deployment.project}"}):
        told = json.dumps(container.attrs) + container.logs().decode(errors="replace")
        assert not [secret for secret in kept if secret in told]


def test_prometheus_finds_every_service(deployment: Deployment) -> None:
    assert deployment.scraped(SERVICES) == {f"tintype-{service}": "up" for service in SERVICES}


def test_everything_goes_but_the_data_and_a_purge_takes_that_too(deployment: Deployment) -> None:
    images = {image["id"] for image in deployment.answer("image", "list")}
    deployment.make("down")
    left = deployment.left()
    assert (left["containers"], left["networks"]) == ([], [])
    kept = {name.removeprefix(f"{deployment.project}_") for name in left["volumes"]}
    assert kept == {"log", "database", "images", "keys", "scratch", "metrics", "grafana"}

    deployment.make("up")
    assert {image["id"] for image in deployment.answer("image", "list")} == images

    deployment.make("down", PURGE="1")
    assert deployment.left() == {"containers": [], "networks": [], "volumes": []}
    assert not (deployment.directory / "secrets").exists()
