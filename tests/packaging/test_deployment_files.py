"""The files of deploy/: well formed, confined, and about the images and settings that there are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tintype
from services.catalog.settings import CatalogSettings
from services.converter.settings import ConverterSettings
from services.importer.settings import ImporterSettings
from services.signer.settings import SignerSettings
from tests.backends.nginx import nginx_program
from tests.backends.podman import IMAGES, STAND_INS
from tintype.adapters.nats.server import server_binary
from tintype.runtime.settings import Settings, load
from tools.deployment import DEPLOY, TARGETS
from tools.make_secrets import make_secrets

COMPOSE_FILES = sorted(DEPLOY.glob("compose*.yaml"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CONTAINERFILES = [DEPLOY / "Containerfile", *sorted(IMAGES.glob("*/Containerfile"))]
SETTINGS = (CatalogSettings, ImporterSettings, ConverterSettings, SignerSettings)
ROOT_AT_FIRST = {"prepare", "postgresql"}
# Debian has one version of a package at a time, so that none can be pinned.
IGNORED_ADVICE = ("DL3008",)


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("secrets")
    make_secrets(directory, "127.0.0.1:9292", "127.0.0.1:4222")
    return directory


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_containerfile_follows_good_practice(path: Path) -> None:
    ignored = [word for rule in IGNORED_ADVICE for word in ("--ignore", rule)]
    found = subprocess.run([program("hadolint"), *ignored, path], check=False, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_compose_file_keeps_to_the_specification(path: Path) -> None:
    command = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert ("cap_add" in service) is (name in ROOT_AT_FIRST)
    assert all(re.match(r"\$\{TINTYPE_\w+:-127\.0\.0\.1:\d+\}:\d+$", port) for port in service.get("ports", ()))


def test_compose_file_names_this_version_and_the_images_that_tests_stand_in_for() -> None:
    named = dict(re.findall(r"\$\{(\w+_IMAGE|TINTYPE_VERSION):-([^}]+)\}", (DEPLOY / "compose.yaml").read_text()))
    assert named["TINTYPE_VERSION"] == tintype.__version__
    for name, variable in (
        ("nats", "NATS"),
        ("postgresql", "POSTGRES"),
        ("nginx", "NGINX"),
        ("prometheus", "PROMETHEUS"),
    ):
        assert named[f"{variable}_IMAGE"] == STAND_INS[name]


def test_every_target_that_is_built_is_an_image_of_the_containerfile() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert set(TARGETS) <= set(stages)


def test_images_are_built_of_nothing_but_what_they_need() -> None:
    """Secrets above all are in no build context; Docker reads a file of this name alone, Podman too."""
    ignore = [line for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignore[0] == "*"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    wanted = {source for sources in copied for source in sources.split()}
    let_in = [pattern[1:] for pattern in ignore if pattern.startswith("!")]
    assert all(any(source == each or source.startswith(f"{each}/") for each in let_in) for source in wanted)
    assert all(any(source == each or source.startswith(f"{each}/") for source in wanted) for each in let_in)
    assert not [each for each in let_in if "secrets" in each or each == "deploy"]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.__name__)
def test_containers_are_set_up_with_settings_that_there_are(
    settings: type[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in (DEPLOY / "store.env").read_text().splitlines():
        if line and not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    loaded = load(settings, DEPLOY / "tintype.toml")
    assert loaded.tls.client_ca is not None and loaded.auth.tokens_file is not None


def test_router_is_set_up_as_nginx_understands(secrets: Path, tmp_path: Path) -> None:
    text = (DEPLOY / "router/nginx.conf").read_text()
    text = text.replace("/tmp/nginx/", f"{tmp_path}/").replace("/etc/tintype/tls/", f"{secrets}/router/tls/")
    (tmp_path / "nginx.conf").write_text(text)
    (tmp_path / "place.conf").write_text('resolver 127.0.0.1;\nmap "" $domain { default ""; }\n')
    command = [nginx_program(), "-e", "stderr", "-t", "-c", str(tmp_path / "nginx.conf")]
    tried = subprocess.run(command, check=False, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr


@pytest.mark.parametrize("name", ["nats.conf", "cluster.conf"])
def test_nats_understands_its_configuration(secrets: Path, tmp_path: Path, name: str) -> None:
    for path in (DEPLOY / "nats").iterdir():
        text = path.read_text().replace("/etc/tintype/tls/", f"{secrets}/nats/tls/")
        (tmp_path / path.name).write_text(text)
    environment = {**os.environ, "NATS_NAME": "nats"}
    command = [server_binary(), "-t", "-c", str(tmp_path / name)]
    tried = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr


def test_nats_knows_every_service_and_nobody_else() -> None:
    users = re.findall(r"\{user: (\w+)[,}]", (DEPLOY / "nats/nats.conf").read_text())
    assert users == ["catalog", "importer", "converter", "signer", "operator"]


def test_services_listen_where_images_say() -> None:
    ports = re.findall(r"^EXPOSE (.+)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)[0].split()
    configuration = tomllib.loads((DEPLOY / "tintype.toml").read_text())
    for service in ("catalog", "importer", "converter", "signer"):
        own = configuration[service]
        listening = [own[name].rpartition(":")[2] for name in ("listen", "health_listen", "metrics_listen")]
        assert listening == ports


def prepared(secrets: Path, root: Path) -> None:
    """Do what the container `prepare` does, below ``root``."""
    for name in ("catalog", "importer", "converter", "signer", "router", "nats", "postgresql", "grafana"):
        (root / "to" / name).mkdir(parents=True, exist_ok=True)
    (root / "data/log").mkdir(parents=True, exist_ok=True)
    (root / "bin").mkdir(exist_ok=True)
    owner = root / "bin/chown"  # who tests is not root
    owner.write_text("#!/bin/sh\n")
    owner.chmod(0o755)
    text = (DEPLOY / "prepare").read_text()
    for place, here in (("/secrets/", secrets), ("/to/", root / "to"), ("/data/", root / "data")):
        text = text.replace(place, f"{here}/")
    text = text.replace("from=/deploy", f"from={DEPLOY}")
    environment = {**os.environ, "PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", text], check=True, env=environment)


def test_a_secret_that_is_taken_away_is_taken_from_its_container(tmp_path: Path) -> None:
    secrets, given = tmp_path / "secrets", tmp_path / "to/importer"
    make_secrets(secrets, "127.0.0.1:9292", "127.0.0.1:4222")
    secret = secrets / "importer/secrets/TINTYPE_STORES__MAIN__SECRET_ACCESS_KEY"
    secret.write_text("s3cret")
    prepared(secrets, tmp_path)
    assert (given / "secrets" / secret.name).stat().st_mode & 0o777 == 0o400
    kept = {path.relative_to(given) for path in given.rglob("*") if path.is_file()}
    secret.unlink()
    prepared(secrets, tmp_path)
    left = {path.relative_to(given) for path in given.rglob("*") if path.is_file()}
    assert left == kept - {Path("secrets") / secret.name}


def test_services_may_do_the_same_to_the_log_in_compose_and_in_kubernetes() -> None:
    """The two configurations differ in files and users, and in nothing that protects the log."""
    files = (DEPLOY / "nats/nats.conf", DEPLOY / "kubernetes/overlays/evaluation/backends/nats.conf")
    blocks = [re.findall(r"default_permissions: \{.*?\n    \}\n", path.read_text(), re.DOTALL) for path in files]
    assert len(blocks[0]) == 1
    assert "$JS.API.STREAM.DELETE.>" in blocks[0][0]
    assert blocks[0] == blocks[1]
