"""The images: what they are made of, and that they work without any privilege."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker.models.networks import Network  # type: ignore[import-untyped]

import tintype
from tests.backends.containers import ContainerEngine
from tests.backends.podman import STAND_INS
from tests.containers.confined import confinement, output_of, running, seccomp, wait_until_healthy
from tools.deployment import DEPLOY, TARGETS

SERVICES = ("catalog", "importer", "converter", "signer")
UNWANTED = ("gcc", "cc", "c++", "ld", "make", "cmake", "git", "pip", "pip3", "hatchling")
NATS = STAND_INS["nats"]
# A container by itself, on a network of its own, without certificates: what is asked here is how it starts and ends.
PLAIN = {
    "TINTYPE_NATS__URL": "nats://nats:4222",
    "TINTYPE_STORES__MAIN__TYPE": "file",
    "TINTYPE_STORES__MAIN__PATH": "/var/lib/tintype/images",
    "TINTYPE_STORES__MAIN__DEFAULT": "true",
    "TINTYPE_CATALOG__DATA_DIR": "/var/lib/tintype",
    "TINTYPE_SIGNER__KEY_DIR": "/var/lib/tintype/keys",
    **{f"TINTYPE_{service.upper()}__HEALTH_LISTEN": "127.0.0.1:9293" for service in SERVICES},
}
NO_FILE = ["--config", "/dev/null"]  # in place of the image's own, which wants certificates
# CLONE_NEWUSER, as seccomp profiles put it: the call is denied where this bit of its flags is set.
NEW_USER_NAMESPACE = {"index": 0, "value": 0x10000000, "valueTwo": 0x10000000, "op": "SCMP_CMP_MASKED_EQ"}
# Runs in the image, as the converter runs its tools; each line says what a program in the jail was told.
JAILED = """
import asyncio, sys
from pathlib import Path
from tintype.runtime.jail import JailLimits, detect_sandbox, run_jailed
sandbox = detect_sandbox()
assert sandbox.bubblewrap is not None
async def tell(*argv):
    lines = []
    result = await run_jailed(argv, read_only=[], writable=[], limits=JailLimits(wall_clock_s=30), sandbox=sandbox,
                              on_stdout_line=lines.append)
    print(result.exit_code, *lines)
async def main():
    await tell("/usr/bin/qemu-img", "--version")
    await tell("/usr/bin/id", "--user")
    for hidden in ("/var/lib/tintype", "/etc", "/proc/1", "/opt", "/run"):
        await tell("/usr/bin/test", "-e", hidden)
    await tell("/usr/bin/touch", "/usr/bin/mine")
    await tell("/bin/bash", "-c", "echo > /dev/tcp/127.0.0.1/1")
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def network(engine: ContainerEngine) -> Iterator[Network]:
    """A network with a NATS in it."""
    made = engine.client().networks.create("tintype-test-images")
    try:
        with running(engine, NATS, command=["-js", "-sd", "/tmp/js"], entrypoint=["nats-server"]) as nats:
            made.connect(nats, aliases=["nats"])
            yield made
    finally:
        made.remove()


def seccomp_of_ours() -> str:
    return seccomp(DEPLOY / "seccomp/converter.json")


def image(images: str, target: str) -> str:
    return f"{images}/{target}:{tintype.__version__}"


@pytest.mark.parametrize("target", TARGETS)
def test_image_runs_as_nobody_who_is_known_by_number_and_says_what_it_is(
    engine: ContainerEngine, images: str, target: str
) -> None:
    attributes = engine.client().images.get(image(images, target)).attrs["Config"]
    assert attributes["User"] == "10001:10001"
    assert {
        "org.opencontainers.image.title": f"tintype-{target}",
        "org.opencontainers.image.version": tintype.__version__,
        "org.opencontainers.image.licenses": "Apache-2.0",
    }.items() <= attributes["Labels"].items()
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", attributes["Labels"]["org.opencontainers.image.revision"])


@pytest.mark.parametrize("target", TARGETS)
def test_image_has_no_build_tools_and_nothing_that_its_user_could_change(
    engine: ContainerEngine, images: str, target: str
) -> None:
    search = 'for name in "$@"; do command -v "$name"; done; find /opt /etc/tintype /usr -writable ! -type l; true'
    command = ["-c", search, "sh", *UNWANTED]
    said = engine.client().containers.run(image(images, target), command=command, entrypoint=["/bin/sh"], remove=True)
    assert said.decode() == ""


@pytest.mark.parametrize("service", SERVICES)
def test_service_becomes_healthy_without_privileges_and_drains_on_sigterm(
    engine: ContainerEngine, images: str, network: Network, service: str
) -> None:
    options = {"network": network.name, "command": NO_FILE, "environment": PLAIN, **confinement()}
    with running(engine, image(images, service), **options) as container:
        wait_until_healthy(container)
        assert output_of(container, "id", "-u") == (0, "10001\n")
        exit_code, _ = output_of(container, "touch", "/opt/tintype/mine")
        assert exit_code != 0
        container.stop(timeout=60)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0
        assert "service is draining" in container.logs().decode()


def test_service_without_its_configuration_says_so_in_one_line(engine: ContainerEngine, images: str) -> None:
    """The image's own configuration wants certificates, which nobody has mounted."""
    with running(engine, image(images, "signer"), **confinement()) as container:
        assert container.wait(timeout=60)["StatusCode"] == 2
        (line,) = container.logs().decode().splitlines()
        assert line.startswith("signer: ") and "/etc/tintype" in line


@pytest.mark.parametrize("options", [[], [seccomp_of_ours]], ids=["as the engine is", "with the filter for Docker"])
def test_tools_are_jailed_in_the_container(
    engine: ContainerEngine, images: str, options: list[Callable[[], str]]
) -> None:
    confined = confinement()
    confined = {**confined, "security_opt": [*confined["security_opt"], *(option() for option in options)]}
    program = {"entrypoint": ["/opt/tintype/bin/python", "-I", "-c"], "command": [JAILED]}
    with running(engine, image(images, "converter"), **program, **confined) as container:
        status = container.wait(timeout=120)["StatusCode"]
        said = container.logs().decode()
    assert status == 0, said
    version, user, *hidden, touched, connected = said.splitlines()
    assert version.startswith("0 qemu-img version")
    assert user == "0 65534"
    assert hidden == ["1"] * 5  # none of them exists in there
    assert not touched.startswith("0") and not connected.startswith("0")


def test_converter_does_not_start_where_tools_cannot_be_jailed(
    engine: ContainerEngine, images: str, tmp_path: Path
) -> None:
    profile = tmp_path / "no-namespaces.json"
    denied = {"names": ["clone", "clone3", "unshare"], "action": "SCMP_ACT_ERRNO", "args": [NEW_USER_NAMESPACE]}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]}))
    options = {**confinement(), "security_opt": ["no-new-privileges:true", seccomp(profile)]}
    with running(engine, image(images, "converter"), environment=PLAIN, command=NO_FILE, **options) as container:
        assert container.wait(timeout=60)["StatusCode"] == 2
        (line,) = container.logs().decode().splitlines()
        assert line.startswith("converter: untrusted tools cannot be confined")


def test_command_line_runs(engine: ContainerEngine, images: str) -> None:
    options = {**confinement(), "command": ["--version"]}
    with running(engine, image(images, "cli"), **options) as container:
        assert container.wait(timeout=60)["StatusCode"] == 0
        assert tintype.__version__ in container.logs().decode()
