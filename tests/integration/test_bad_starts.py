"""What a service says of a start that cannot be: one line that names the setting, no traceback and no secret."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from services.catalog import generations
from services.catalog.database import Database
from services.catalog.schema import BUILDERS
from tests.backends.other_nats import changed_nats_server, encrypted_nats_server, old_nats_server
from tests.backends.service_starts import ROOT, Attempt, Ended, run_all
from tintype import __version__
from tintype.adapters.nats.server import ServerTls
from tintype.embedded.authority import Authority, open_authority

pytestmark = [pytest.mark.nats, pytest.mark.xdist_group("bad starts")]

SERVICES = ("catalog", "importer", "converter", "signer")
SECRET = "hunter2"
NOBODY = "127.0.0.1:1"
"""Nothing listens there."""

WRONG_SETTINGS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "a setting that there is not": ({"NATS__URLL": "x"}, "nats.urll: no such setting"),
    "a section that there is not": ({"NAST__URL": "x"}, "no such section in the environment: nast"),
    "a text for a number": ({"OWN__DRAIN_S": SECRET}, "OWN.drain_s: "),
    "a number out of range": ({"OWN__CONCURRENCY": "0"}, "OWN.concurrency: "),
    "a word that is no switch": ({"OWN__UNSAFE_PLAINTEXT": SECRET}, "OWN.unsafe_plaintext: "),
    "a level that there is not": ({"LOG__LEVEL": SECRET}, "log.level: "),
    "an address without a port": ({"OWN__LISTEN": "127.0.0.1"}, "OWN.listen: "),
    "an address for everybody": ({"OWN__LISTEN": "0.0.0.0:0"}, "OWN.listen: "),
    "a port of probes that is none": ({"OWN__HEALTH_LISTEN": "127.0.0.1:http"}, "OWN.health_listen: "),
    "a URL of another protocol": ({"NATS__URL": f"http://u:{SECRET}@h:1"}, "nats.url: must be nats://HOST:PORT"),
    "a URL with a port too high": ({"NATS__URL": f"nats://u:{SECRET}@h:99999"}, "nats.url: must be nats://HOST:PORT"),
    "no URL": ({"NATS__URL": ""}, "nats.url: must be nats://HOST:PORT"),
    "one wrong URL of two": ({"NATS__URL": f"nats://h:1,{SECRET}@@://"}, "nats.url: must be nats://HOST:PORT"),
    "credentials that are away": ({"NATS__CREDENTIALS_FILE": "/nowhere/c"}, "nats.credentials_file: /nowhere/c"),
    "credentials that are none": ({"NATS__CREDENTIALS_FILE": "other"}, "nats.credentials_file: other holds no"),
    "a certificate that is away": (
        {"TLS__CERTIFICATE": "/nowhere/c", "TLS__KEY": "other"},
        "tls.certificate: /nowhere/c",
    ),
    "a certificate without key": ({"TLS__CERTIFICATE": "other"}, "tls: certificate and key belong together"),
    "a certificate that is none": (
        {"TLS__CERTIFICATE": "other", "TLS__KEY": "other"},
        "tls.certificate: other holds no",
    ),
    "tokens that are away": ({"AUTH__TOKENS_FILE": "/nowhere/t"}, "auth.tokens_file: /nowhere/t cannot"),
    "tokens that are none": ({"AUTH__TOKENS_FILE": "other"}, "auth.tokens_file: other"),
    "secrets that are away": ({"SECRETS_DIR": "/nowhere/s"}, "TINTYPE_SECRETS_DIR: /nowhere/s cannot"),
    "an expired certificate": (
        {"TLS__CERTIFICATE": "old/tls.crt", "TLS__KEY": "old/tls.key"},
        "tls.certificate: old/tls",
    ),
    "an expired CA of NATS": ({"TLS__CA": "old/tls.crt", "NATS__URL": f"tls://{NOBODY}"}, "tls.ca: old/tls.crt"),
    "an expired CA of callers": (
        {"TLS__CERTIFICATE": "new/tls.crt", "TLS__KEY": "new/tls.key", "TLS__CLIENT_CA": "old/tls.crt"},
        "tls.client_ca: old/tls.crt",
    ),
}
"""For every service: variables without TINTYPE_, where OWN is its section, and how the line begins after its name."""

OWN_SETTINGS: Mapping[str, Mapping[str, tuple[Mapping[str, str], str]]] = {
    "catalog": {
        "a database of another kind": ({"CATALOG__DATABASE_URL": f"mysql://u:{SECRET}@h/d"}, "catalog.database_url: "),
        "a port that is none": (
            {"CATALOG__DATABASE_URL": f"postgresql://u:{SECRET}@h:x/d"},
            "catalog.database_url is not",
        ),
        "a file that is no database": ({"CATALOG__DATABASE_URL": "sqlite:///other"}, "catalog.database_url: "),
        "a directory that is away": ({"CATALOG__DATABASE_URL": "sqlite:////nowhere/db"}, "catalog.database_url: "),
        "a directory that cannot be": ({"CATALOG__DATA_DIR": "other/x"}, "catalog.data_dir other/x cannot be made: "),
        "a newer release's database": (
            {"CATALOG__DATABASE_URL": "sqlite:///newer.db"},
            "catalog.database_url: Tintype 99",
        ),
    },
    "importer": {
        "no store": ({"STORES__MAIN__PATH": "-"}, "stores: no store is set"),
        "a store of another kind": ({"STORES__MAIN__TYPE": "ftp"}, "stores.main: type must be "),
        "a store without its path": ({"STORES__SECOND__TYPE": "file"}, "stores.second.path: Field required"),
    },
    "converter": {
        "no store": ({"STORES__MAIN__PATH": "-"}, "stores: no store is set"),
        "a format that is none": ({"CONVERTER__OUTPUT_FORMAT": "vhdx"}, "converter.output_format: "),
    },
    "signer": {
        "no keys": ({"SIGNER__KEY_DIR": "-"}, "signer.key_dir is missing"),
        "keys in a file": ({"SIGNER__KEY_DIR": "other"}, "signer.key_dir: other cannot"),
        "certificates that are away": ({"SIGNER__CERTIFICATE_DIR": "/nowhere/c"}, "signer.certificate_dir: /nowhere/c"),
        "roots that are away": ({"SIGNER__TRUSTED_ROOTS_DIR": "/nowhere/r"}, "signer.trusted_roots_dir: /nowhere/r"),
        "a token without its PIN": ({"SIGNER__PKCS11_MODULE": "/nowhere/m"}, "signer: pkcs11_module, pkcs11_token and"),
    },
}
"""The same for one service. ``-`` takes a variable away."""


def right(service: str) -> dict[str, str]:
    """What the service needs, and nothing wrong in it; but nobody is where NATS should be."""
    own = {
        "catalog": {"CATALOG__DATA_DIR": "data"},
        "importer": {"STORES__MAIN__PATH": "store"},
        "converter": {"STORES__MAIN__PATH": "store"},
        "signer": {"SIGNER__KEY_DIR": "keys"},
    }[service]
    return {"NATS__URL": f"nats://{NOBODY}", "NATS__CONNECT_TIMEOUT_S": "0.5", **own}


def attempt(service: str, name: str, wrong: Mapping[str, str]) -> Attempt:
    variables = {**right(service), **wrong}
    return Attempt(
        name,
        {f"TINTYPE_{key.replace('OWN', service.upper())}": value for key, value in variables.items() if value != "-"},
    )


def wrong_settings(service: str) -> dict[str, tuple[Mapping[str, str], str]]:
    """All of them that concern a service."""
    return {**WRONG_SETTINGS, **OWN_SETTINGS[service]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return open_authority(tmp_path_factory.mktemp("ca"))


def lay_out(directory: Path, authority: Authority) -> None:
    """Files that settings of the attempts name, relative to the directory that the service is started in."""
    authority.issue(directory / "new", ["localhost", "127.0.0.1"])
    authority.issue(directory / "old", ["localhost", "127.0.0.1"], lifetime=timedelta(days=-1))
    (directory / "other").write_text("something else, and more than a page of it\n" * 200)
    (directory / "store").mkdir()
    asyncio.run(build_newer(directory / "newer.db"))


async def build_newer(path: Path) -> None:
    """A database with tables of a release to come."""
    database = Database(f"sqlite:///{path}")
    await database.write(lambda c: generations.added(c, "another form"))
    await database.write(lambda c: c.execute(update(BUILDERS).values(release="99.1.0")))
    await database.close()


class Places:
    """NATS servers, and a database, that a service cannot work with."""

    def __init__(self, directory: Path, authority: Authority, stack: ExitStack) -> None:
        for name in ("old", "changed", "expired", "certificates"):
            (directory / name).mkdir()
        certificates = directory / "certificates"
        authority.issue(certificates, ["localhost", "127.0.0.1"])
        authority.issue(certificates / "old", ["localhost", "127.0.0.1"], lifetime=timedelta(days=-1))
        shown = ServerTls(certificates / "old" / "tls.crt", certificates / "old" / "tls.key", certificates / "ca.crt")
        self.ca = str(certificates / "ca.crt")
        self.old, self.old_version = stack.enter_context(old_nats_server(directory / "old"))
        flags = {"discard": "new", "duplicate_window": 120_000_000_000, "deny_delete": True, "allow_direct": True}
        self.changed = stack.enter_context(changed_nats_server(directory / "changed", **flags))
        self.expired = stack.enter_context(encrypted_nats_server(directory / "expired", shown))

    def attempts(self) -> dict[str, Mapping[str, str]]:
        """Starts that are set up well, and do not find what they need."""
        patient = {"NATS__CONNECT_TIMEOUT_S": "5"}
        return {
            "nobody": {},
            "too old": {"NATS__URL": self.old, **patient},
            "changed": {"NATS__URL": self.changed, **patient},
            "expired": {"NATS__URL": self.expired, "TLS__CA": self.ca, **patient},
        }


@pytest.fixture(scope="module")
def places(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with ExitStack() as stack:
        yield Places(tmp_path_factory.mktemp("places"), authority, stack)


@pytest.fixture(scope="module", params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ended(
    service: str, authority: Authority, places: Places, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ended]:
    """How each start of a service ended that could not be."""
    directory = tmp_path_factory.mktemp(service)
    lay_out(directory, authority)
    wrong = {name: variables for name, (variables, _) in wrong_settings(service).items()}
    return run_all(service, [attempt(service, *each) for each in {**wrong, **places.attempts()}.items()], directory)


def test_a_wrong_setting_ends_the_start_with_one_line_that_names_it(service: str, ended: dict[str, Ended]) -> None:
    for name, (_, beginning) in wrong_settings(service).items():
        expected = f"{service}: {beginning.replace('OWN', service)}"
        assert ended[name].code == 2, (name, ended[name])
        assert ended[name].said.count("\n") == 1, (name, ended[name])
        assert ended[name].said.startswith(expected), (name, ended[name])


def test_no_line_has_a_secret_or_a_traceback(ended: dict[str, Ended]) -> None:
    assert [each for each in ended.values() if SECRET in each.said or "Traceback" in each.said] == []


def test_what_has_expired_is_told_with_its_date(ended: dict[str, Ended]) -> None:
    expired = [each.said for name, each in ended.items() if name.startswith("an expired")]
    assert len(expired) == 3
    for said in expired:
        assert "the certificate of CN=localhost expired on 20" in said


def test_a_database_of_a_newer_release_names_both_releases(service: str, ended: dict[str, Ended]) -> None:
    if service == "catalog":
        said = ended["a newer release's database"].said
        assert "99.1.0" in said and __version__ in said and "99.1.0 or later" in said


@pytest.mark.parametrize(
    ("service", "content"),
    [*((service, None) for service in SERVICES), *(("catalog", text) for text in (b"[nats\n", b"\xff", b"x = 1\n"))],
    ids=[*SERVICES, "no TOML", "no text", "unknown"],
)
def test_a_file_that_cannot_be_read_is_named(service: str, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "tintype.toml"
    if content is not None:
        file.write_bytes(content)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TINTYPE_")}
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}", "--config", str(file)],
        env={**inherited, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{service}: ") and str(file) in done.stderr
    assert done.stderr.count("\n") == 1


def told(start: Ended) -> tuple[str, str]:
    """The reason and the sentence of the last line."""
    line = json.loads(start.last_line)
    assert (line["event"], line["level"]) == ("service failed", "error")
    return line["reason"], line["error"]


def test_a_nats_that_does_not_answer_is_told_with_its_place(ended: dict[str, Ended]) -> None:
    start = ended["nobody"]
    assert start.code == 1, start
    reason, error = told(start)
    assert reason == "EVENT_LOG_UNAVAILABLE"
    assert error.startswith(f"NATS at {NOBODY} does not answer: ")
    assert "Traceback" not in start.said


def test_a_nats_that_is_too_old_is_refused_with_the_version_that_is_needed(
    service: str, places: Places, ended: dict[str, Ended]
) -> None:
    if not places.old:
        pytest.skip(f"this distribution has nats-server {places.old_version}, which is new enough")
    start = ended["too old"]
    assert start.code == 2, start
    host = places.old.removeprefix("nats://")
    expected = f"{service}: nats.url: {host}: nats-server {places.old_version} is too old: Tintype needs 2.12 or later"
    assert start.last_line == expected


def test_an_expired_certificate_of_nats_is_told_as_its(places: Places, ended: dict[str, Ended]) -> None:
    start = ended["expired"]
    assert start.code == 1, start
    reason, error = told(start)
    assert reason == "EVENT_LOG_UNAVAILABLE"
    assert error.startswith(f"NATS at {places.expired.removeprefix('tls://')} does not answer: ")
    assert "certificate has expired" in error


def test_a_stream_whose_flag_is_another_is_refused_by_its_name(service: str, ended: dict[str, Ended]) -> None:
    start = ended["changed"]
    assert start.code == 2, start
    expected = f"{service}: stream TINTYPE_IMAGES has deny_purge = False and needs True: change it "
    assert start.last_line.startswith(expected), start
    assert "2.12 or later" in start.last_line
