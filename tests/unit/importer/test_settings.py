"""The importer's own settings: lists as TOML and the environment write them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.importer.settings import ImporterSection
from services.importer.sources.addresses import IPAddress, target_of
from tintype.domain.errors import SourceForbiddenError


@pytest.mark.parametrize("ports", ["8080,8443", "8080, 8443,", ["8080", "8443"], [8080, 8443]])
def test_ports_are_read_from_toml_and_from_the_environment(ports: object) -> None:
    assert ImporterSection.model_validate({"allowed_ports": ports}).allowed_ports == ("8080", "8443")


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_ports": "0"},
        {"allowed_ports": "65536"},
        {"allowed_ports": "http"},
        {"allowed_ports": 5},
        {"allowed_hosts": "a b"},
        {"allowed_hosts": "10.0.0.0/33"},
        {"hash_algorithm": "md5"},
        {"hash_algorithm": "crc32"},
        {"max_image_bytes": 0},
        {"unknown": 1},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ImporterSection.model_validate(wrong)


def test_nothing_but_the_internet_is_fetched_from_by_default() -> None:
    with pytest.raises(SourceForbiddenError):
        ImporterSection().rules.permitted(target_of("http://127.0.0.1/"), [_loopback()])


def _loopback() -> IPAddress:
    literal = target_of("http://127.0.0.1/").literal
    assert literal is not None
    return literal
