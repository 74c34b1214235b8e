"""Where NATS and PostgreSQL of the tests come from is decided once, and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends import shared_servers
from tests.backends.shared_servers import CONTAINERS, LOCAL, REASON, SERVERS


def test_without_an_engine_they_are_local_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shared_servers, "_DEFAULT_SOCKET", tmp_path / "none")
    environment: dict[str, str] = {}
    shared_servers.decide(environment)
    assert environment == {SERVERS: LOCAL, REASON: "no container engine is set up here"}


def test_an_engine_that_does_not_answer_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    environment = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    shared_servers.decide(environment)
    assert environment[SERVERS] == LOCAL
    assert environment[REASON].startswith("the container engine does not answer: ")


def test_what_was_said_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {SERVERS: CONTAINERS}
    shared_servers.decide(environment)
    assert environment == {SERVERS: CONTAINERS, REASON: f"{SERVERS} says so"}


def test_the_header_of_the_report_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVERS, CONTAINERS)
    monkeypatch.setenv(REASON, "an engine answers")
    monkeypatch.setenv(shared_servers.NATS_IMAGE, "registry.example/nats:1")
    monkeypatch.delenv(shared_servers.POSTGRESQL_IMAGE, raising=False)
    assert shared_servers.header() == (
        "NATS and PostgreSQL: containers (registry.example/nats:1, docker.io/library/postgres:17-alpine): "
        "an engine answers"
    )


def test_another_word_for_them_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVERS, "remote")
    with pytest.raises(pytest.fail.Exception, match="must be containers or local"):
        shared_servers.in_containers()
