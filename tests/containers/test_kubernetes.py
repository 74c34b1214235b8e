"""The evaluation's manifests run: an image goes through the router, and is converted, signed for, published and proven.

``podman kube play`` stands in for a cluster; :mod:`tests.containers.kube_play` says what that leaves out.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tintype
from tests.containers.kube_play import NETWORK, KubePlay, pod_name
from tests.containers.probes import succeeds
from tests.packaging.manifests import ROOT, of_kind, pod_of, rendered
from tintype.codec.subjects import STREAM
from tintype.codec.tokens import digest_of, new_token
from tintype.embedded.authority import open_authority
from tools.deployment import REPOSITORY, find_engine

SERVICES = ("catalog", "importer", "converter", "signer")
READY_TIMEOUT_S = 180
COMMAND_TIMEOUT_S = 300
DISK_BYTES = 8 * 1024 * 1024


def podman(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``podman …``."""
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S, **options
    )
    assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-2000:])
    return done


@pytest.fixture(scope="module")
def cluster(images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubePlay]:
    """The evaluation, with all of its pods ready."""
    if not find_engine().is_podman:
        pytest.skip("the engine here is no podman, which alone plays manifests")
    if os.geteuid() != 0:
        pytest.skip("the files of Secrets get an owner, for which the test has to be root")
    directory = tmp_path_factory.mktemp("cluster")
    objects = (*rendered("evaluation"), publisher(directory))
    playing = KubePlay(podman, objects, ROOT / "deploy" / "seccomp", directory)
    make_secrets(playing)
    try:
        playing.start()
        wait_until_ready(playing)
        yield playing
    finally:
        playing.stop()


def publisher(directory: Path) -> dict[str, Any]:
    """The ConfigMap with a publisher's certificate; the private key stays in the directory."""
    key, certificate = directory / "publisher.key", directory / "publisher.pem"
    subject = ["-days", "30", "-subj", "/CN=Publisher", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], check=True, capture_output=True
    )
    data = {"publisher-1.pem": certificate.read_text()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "certificates"}, "data": data}


def make_secrets(playing: KubePlay) -> None:
    """What an operator makes (secrets.example.yaml), and what cert-manager does."""
    playing.issue_certificates(open_authority(playing.directory / "authority"))
    token, password = new_token(), secrets.token_hex(16)
    (playing.directory / "token").write_text(token)
    grant = f'[[tokens]]\nactor = "operator"\nsha256 = "{digest_of(token)}"\nprojects = ["*"]\nadmin = true\n'
    url = f"postgresql://tintype:{password}@postgresql/tintype?sslmode=verify-full"
    playing.secrets["tokens"] = {"tokens.toml": grant.encode()}
    playing.secrets["postgresql"] = {"password": password.encode()}
    playing.secrets["catalog-secrets"] = {"TINTYPE_CATALOG__DATABASE_URL": url.encode()}


def wait_until_ready(playing: KubePlay) -> None:
    """As a Deployment is: every pod answers its readiness probe."""
    end = time.monotonic() + READY_TIMEOUT_S
    waiting = list(playing.started)
    while waiting := [name for name in waiting if not probe(playing, name, "readinessProbe")]:
        if time.monotonic() > end:
            logs = "\n".join(f"--- {name}\n{playing.logs(name)[-3000:]}" for name in waiting)
            pytest.fail(f"not ready: {', '.join(waiting)}\n{logs}")
        time.sleep(0.5)


def probe(playing: KubePlay, name: str, kind: str) -> bool:
    """Whether the pod of a Deployment answers a probe as its manifest wants it."""
    (container,) = pod_of(playing.of_kind("Deployment")[name])["containers"]

    def execute(*command: str) -> bool:
        done = subprocess.run(["podman", "exec", f"{pod_name(name)}-main", *command], capture_output=True, check=False)
        return done.returncode == 0

    return succeeds(container[kind], container, playing.address(name), execute)


@pytest.fixture(scope="module")
def desk(cluster: KubePlay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client's directory: what it knows is the router's address, its CA, and a token."""
    directory = tmp_path_factory.mktemp("desk")
    (directory / "ca.crt").write_bytes(cluster.secrets["router-tls"]["ca.crt"])
    (directory / "token").write_text((cluster.directory / "token").read_text())
    (directory / "publisher.key").write_bytes((cluster.directory / "publisher.key").read_bytes())
    configuration = '[client]\nendpoint = "router:9292"\nca = "ca.crt"\ntoken_file = "token"\n'
    (directory / "client.toml").write_text(configuration)
    (directory / "disk.raw").write_bytes(secrets.token_bytes(DISK_BYTES // 2) + bytes(DISK_BYTES // 2))
    make = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"]
    subprocess.run(make, cwd=directory, check=True)
    for path in (directory, *directory.iterdir()):
        os.chown(path, 10001, 10001)
    (directory / "publisher.key").chmod(0o600)
    return directory


def tintype_command(desk: Path, *words: str) -> str:
    """Run the command line's image beside the cluster; its output."""
    mounts = ["--volume", f"{desk}:/desk", "--workdir", "/desk", "--env", "TINTYPE_CONFIG=/desk/client.toml"]
    image = f"{REPOSITORY}/cli:{tintype.__version__}"
    return podman("run", "--rm", "--read-only", "--network", NETWORK, *mounts, image, *words).stdout


@pytest.fixture(scope="module")
def published(desk: Path) -> dict[str, Any]:
    """An image that was imported with a publisher's signature, and converted on the way."""
    tintype_command(
        desk,
        *("image", "create-via-import", "--name", "signed", "--disk-format", "qcow2", "--container-format", "bare"),
        *("--file", "disk.qcow2", "--sign-key", "publisher.key", "--sign-certificate", "publisher-1", "--wait"),
    )
    image: dict[str, Any] = json.loads(tintype_command(desk, "image", "show", "signed", "--output", "json"))
    return image


def test_an_import_is_converted_signed_and_published_through_the_router(published: dict[str, Any]) -> None:
    assert published["status"] == "active"
    assert published["disk_format"] == "raw"
    assert published["verification"]["verdict"] == "signed"


def test_what_is_downloaded_is_the_disk_that_was_sent_and_proves_it(published: dict[str, Any], desk: Path) -> None:
    tintype_command(desk, "image", "download", "signed", "--file", "back.raw", "--verify")
    assert digest(desk / "back.raw") == digest(desk / "disk.raw")


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_every_pod_answers_its_probes(cluster: KubePlay, kind: str) -> None:
    assert {name: probe(cluster, name, kind) for name in cluster.started} == dict.fromkeys(cluster.started, True)


def test_keda_finds_the_queues_that_replicas_follow(cluster: KubePlay, published: dict[str, Any]) -> None:
    triggers = [
        trigger["metadata"]
        for scaled in of_kind("external", "ScaledObject").values()
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == "nats-jetstream"
    ]
    assert triggers
    for trigger in triggers:
        # What its scaler asks, and where it looks in the answer.
        query = f"acc={trigger['account']}&consumers=true&config=true"
        with urllib.request.urlopen(f"http://{cluster.address('nats')}:8222/jsz?{query}") as answer:
            accounts = json.load(answer)["account_details"]
        (account,) = (each for each in accounts if each["name"] == trigger["account"])
        (stream,) = (each for each in account["stream_detail"] if each["name"] == trigger["stream"] == STREAM)
        (consumer,) = (each for each in stream["consumer_detail"] if each["name"] == trigger["consumer"])
        assert consumer["num_pending"] == 0


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_write_nowhere_but_where_it_has_a_volume(cluster: KubePlay, name: str) -> None:
    script = (
        "id -u; for d in / /etc /opt/tintype /usr /run/secrets/tintype /etc/tintype/tls; do touch $d/x && echo $d; done"
    )
    done = subprocess.run(
        ["podman", "exec", f"{pod_name(name)}-main", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["10001"]


def test_nobody_gets_past_the_router_without_a_certificate_of_the_services(cluster: KubePlay, desk: Path) -> None:
    mounts = ["--volume", f"{desk}:/desk:ro", "--env", "TINTYPE_CONFIG=/desk/direct.toml"]
    configuration = '[client]\nendpoint = "catalog:9292"\nca = "ca.crt"\ntoken_file = "token"\ntimeout_s = 5\n'
    (desk / "direct.toml").write_text(configuration)
    image = f"{REPOSITORY}/cli:{tintype.__version__}"
    command = ["podman", "run", "--rm", "--network", NETWORK, *mounts, image, "image", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S)
    assert done.returncode != 0
    assert "UNAVAILABLE" in done.stderr + done.stdout


def test_services_drain_when_their_pods_are_stopped(cluster: KubePlay) -> None:
    """The last test: it ends the cluster."""
    for name in SERVICES:
        grace = pod_of(cluster.of_kind("Deployment")[name])["terminationGracePeriodSeconds"]
        podman("stop", "--time", str(grace), f"{pod_name(name)}-main")
        state = podman("inspect", "--format", "{{.State.ExitCode}}", f"{pod_name(name)}-main").stdout.strip()
        assert (name, state) == (name, "0")
        assert "service stopped" in cluster.logs(name)
