"""The manifests fit the code: settings that there are, queues that workers have, and roads that nobody else has."""

from __future__ import annotations

import ast
import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.catalog.settings import CatalogSettings
from services.converter.settings import ConverterSettings
from services.importer.settings import ImporterSettings
from services.signer.settings import SignerSettings
from tests.packaging.manifests import OVERLAYS, ROOT, Object, examples, of_kind, pod_of, secrets_used, selects
from tintype.codec.subjects import STREAM
from tintype.runtime.settings import ServiceSettings, Settings, load

SETTINGS: Mapping[str, type[Settings]] = {
    "catalog": CatalogSettings,
    "importer": ImporterSettings,
    "converter": ConverterSettings,
    "signer": SignerSettings,
}

# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_takes_the_settings_that_it_is_given(
    overlay: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pod_of(of_kind(overlay, "Deployment")[name])
    (container,) = pod["containers"]
    for each in container["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    monkeypatch.setenv("TINTYPE_SECRETS_DIR", str(lay_out_secrets(tmp_path / "secrets", overlay, pod)))
    settings = load(SETTINGS[name], lay_out_settings(tmp_path, overlay, pod))
    own: ServiceSettings = getattr(settings, name)
    ports = {port["name"]: f"0.0.0.0:{port['containerPort']}" for port in container["ports"]}
    assert {"grpc": own.listen, "health": own.health_listen, "metrics": own.metrics_listen} == ports
    assert not own.unsafe_plaintext
    assert settings.nats.url.startswith("tls://")


def lay_out_settings(folder: Path, overlay: str, pod: Object) -> Path:
    """The settings' file, as the pod has it."""
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "settings")
    ((name, text),) = of_kind(overlay, "ConfigMap")[volume["configMap"]["name"]]["data"].items()
    path = folder / str(name)
    path.write_text(text)
    assert pod["containers"][0]["args"] == ["--config", f"/etc/tintype/settings/{name}"]
    return path


def lay_out_secrets(folder: Path, overlay: str, pod: Object) -> Path:
    """The files that the example of the pod's Secret makes."""
    folder.mkdir()
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "secrets")
    for key, value in examples(overlay).get(volume["secret"]["secretName"], {}).get("stringData", {}).items():
        (folder / key).write_text(value)
    return folder


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_secret_is_mounted_by_nobody_who_has_no_use_for_it(overlay: str) -> None:
    users: dict[str, set[str]] = {}
    for name, deployment in of_kind(overlay, "Deployment").items():
        for secret, _ in secrets_used(pod_of(deployment)):
            users.setdefault(secret, set()).add(name)
    shared = {"tokens": set(SETTINGS), "store-secrets": {"importer", "converter"}}
    for secret, names in users.items():
        assert names == shared.get(secret, names)
        assert secret in shared or len(names) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_tool_that_takes_too_much_memory_kills_no_container(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pod_of(of_kind(overlay, "Deployment")["converter"])
    (container,) = pod["containers"]
    for each in container["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    monkeypatch.delenv("TINTYPE_SECRETS_DIR")
    own = load(ConverterSettings, lay_out_settings(tmp_path, overlay, pod)).converter
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    for_itself = 1024**3
    assert own.concurrency * own.memory_limit_bytes + for_itself <= int(limit.removesuffix("Gi")) * 1024**3


# --- queues -----------------------------------------------------------------------------------------------------------


def workers_of(service: str) -> set[str]:
    """The names of a service's workers, which their queues and durable consumers bear."""
    tree = ast.parse((ROOT / "services" / service / "app.py").read_text())
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Worker")
    names = (keyword.value for call in calls for keyword in call.keywords if keyword.arg == "name")
    return {name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)}


@pytest.mark.parametrize(("name", "queues"), [("importer", {"importer", "placer"}), ("converter", {"converter"})])
def test_replicas_follow_queues_that_their_service_works_on(name: str, queues: set[str]) -> None:
    scaled = of_kind("external", "ScaledObject")[name]
    followed = [each["metadata"] for each in scaled["spec"]["triggers"] if each["type"] == "nats-jetstream"]
    assert {each["consumer"] for each in followed} == queues <= workers_of(name)
    assert {each["stream"] for each in followed} == {STREAM}
    section = SETTINGS[name].model_fields[name].annotation
    assert section is not None
    # KEDA wants one replica for so many events: as many as one works on at once.
    assert {int(each["lagThreshold"]) for each in followed} == {section.model_fields["concurrency"].default}
    assert scaled["spec"]["minReplicaCount"] >= 2


# --- roads ------------------------------------------------------------------------------------------------------------


def labels_of(overlay: str, name: str) -> Mapping[str, str]:
    """The labels of the pods of a Deployment."""
    labels: Mapping[str, str] = of_kind(overlay, "Deployment")[name]["spec"]["template"]["metadata"]["labels"]
    return labels


def rules(overlay: str, name: str, direction: str) -> Iterator[Any]:
    """What policies allow the pods of a Deployment, in or out. Those that no policy selects would be allowed all."""
    policies = [
        policy["spec"]
        for policy in of_kind(overlay, "NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"], labels_of(overlay, name))
        and direction.capitalize() in policy["spec"]["policyTypes"]
    ]
    assert policies
    for policy in policies:
        yield from policy.get(direction, [])


def is_open(rule: Any, port: int) -> bool:
    """Whether a rule is about a port."""
    return "ports" not in rule or port in {each["port"] for each in rule["ports"]}


def may_call(overlay: str, caller: str, callee: str, port: int) -> bool:
    """Whether pods of one Deployment reach a port of another's: both sides have to allow it."""
    goes_out = any(
        is_open(rule, port)
        and any(
            selects(peer.get("podSelector", {"matchLabels": {"no": "pod"}}), labels_of(overlay, callee))
            for peer in rule.get("to", [])
        )
        for rule in rules(overlay, caller, "egress")
    )
    comes_in = any(
        is_open(rule, port)
        and (
            "from" not in rule
            or any(
                "namespaceSelector" not in peer and selects(peer["podSelector"], labels_of(overlay, caller))
                for peer in rule["from"]
            )
        )
        for rule in rules(overlay, callee, "ingress")
    )
    return goes_out and comes_in


PORTS = {**dict.fromkeys([*SETTINGS, "router"], (9292, 9293, 9294)), "nats": (4222, 8222), "postgresql": (5432,)}


def test_nobody_reaches_what_he_has_no_business_with() -> None:
    reached = {
        (caller, callee, port)
        for caller in PORTS
        for callee, ports in PORTS.items()
        for port in ports
        if caller != callee and may_call("evaluation", caller, callee, port)
    }
    assert reached == {
        *(("router", name, 9292) for name in SETTINGS),
        *((name, "nats", 4222) for name in SETTINGS),
        ("catalog", "postgresql", 5432),
    }


def may_send_to(overlay: str, name: str, address: str, port: int) -> bool:
    """Whether pods of a Deployment reach an address outside the cluster."""
    host = ipaddress.ip_address(address)
    blocks = (
        peer["ipBlock"]
        for rule in rules(overlay, name, "egress")
        if is_open(rule, port)
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    )
    return any(
        host in ipaddress.ip_network(block["cidr"])
        and not any(host in ipaddress.ip_network(each) for each in block.get("except", []))
        for block in blocks
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", [*SETTINGS, "router"])
def test_only_importers_reach_the_web(overlay: str, name: str) -> None:
    is_importer = name == "importer"
    assert may_send_to(overlay, name, "1.1.1.1", 443) is is_importer
    assert may_send_to(overlay, name, "2606:4700::1111", 80) is is_importer
    assert not may_send_to(overlay, name, "1.1.1.1", 22)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.20.1.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fd00:ec2::254",
        "fe80::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_a_web_download_reaches_nothing_inside(overlay: str, address: str) -> None:
    assert not may_send_to(overlay, "importer", address, 80)


def test_only_monitoring_reads_metrics() -> None:
    for name in SETTINGS:
        metrics = [rule for rule in rules("external", name, "ingress") if is_open(rule, 9294)]
        namespaces = [peer["namespaceSelector"]["matchLabels"] for rule in metrics for peer in rule["from"]]
        assert namespaces == [{"kubernetes.io/metadata.name": "monitoring"}]
