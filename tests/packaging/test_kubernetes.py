"""The manifests are what Kubernetes takes, and say what they promise: safe pods, nothing missing, nothing left over."""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import tintype
from tests.packaging import custom_kinds
from tests.packaging.manifests import (
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Object,
    built,
    containers_of,
    examples,
    of_kind,
    pod_of,
    rendered,
    secrets_used,
    selects,
)
from tools.generate_prometheus_rule import RULE, prometheus_rule

OLDEST, NEWEST = "1.29", "1.37"
"""The releases of Kubernetes whose schemas are held against every object."""

SERVICES = ("catalog", "importer", "converter", "signer")
REPLICATED = (*SERVICES, "router")
TINTYPE_USER, POSTGRES_USER = 10001, 70
JAIL_PROFILE = {"type": "Localhost", "localhostProfile": "tintype/converter.json"}

DEPLOYMENTS = [(overlay, name) for overlay in OVERLAYS for name in of_kind(overlay, "Deployment")]
every_deployment = pytest.mark.parametrize(("overlay", "name"), DEPLOYMENTS)
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def check(each: Object) -> None:
    """Hold one object against its schema."""
    check_text(json.dumps(each, sort_keys=True))


@functools.cache
def check_text(text: str) -> None:
    """The same of its text, once: most objects are in every overlay."""
    each = json.loads(text)
    if custom_kinds.is_custom(each):
        custom_kinds.validate(each)
    else:
        for release in (OLDEST, NEWEST):
            kubernetes_validate.validate(each, release, strict=True)


@every_overlay
def test_every_object_is_what_kubernetes_takes(overlay: str) -> None:
    for each in rendered(overlay):
        check(each)


def misspelt(each: Any) -> None:
    each["spec"]["template"]["spec"]["containers"][0]["resource"] = {}


def of_a_wrong_type(each: Any) -> None:
    each["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "9292"


def without_what_is_needed(each: Any) -> None:
    del each["spec"]["selector"]


@pytest.mark.parametrize("spoil", [misspelt, of_a_wrong_type, without_what_is_needed])
def test_a_deployment_with_a_mistake_is_refused(spoil: Any) -> None:
    each = copy.deepcopy(of_kind("external", "Deployment")["catalog"])
    spoil(each)
    with pytest.raises(kubernetes_validate.ValidationError):
        check(each)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Certificate", "catalog"),
        ("ScaledObject", "importer"),
        ("ServiceMonitor", "tintype"),
        ("PrometheusRule", "tintype"),
    ],
)
def test_a_mistake_in_a_custom_kind_is_refused(kind: str, name: str) -> None:
    each: Any = copy.deepcopy(of_kind("external", kind)[name])
    each["spec"]["misspelt"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        check(each)


@every_overlay
def test_no_secret_is_in_the_manifests(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")


@every_overlay
def test_names_are_unique_and_in_the_namespace(overlay: str) -> None:
    keys = [(each["kind"], each["metadata"]["name"]) for each in rendered(overlay)]
    assert len(keys) == len(set(keys))
    for each in rendered(overlay):
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "tintype"


@every_overlay
def test_the_namespace_enforces_restricted_pods(overlay: str) -> None:
    labels = of_kind(overlay, "Namespace")["tintype"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_site_can_have_a_shared_volume_and_no_jail(tmp_path: Path) -> None:
    relative = Path(os.path.relpath(KUBERNETES, tmp_path))
    kustomization = {
        "resources": [str(relative / "overlays" / "external")],
        "components": [str(relative / "components" / name) for name in ("file-store", "no-jail")],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    objects = built(tmp_path)
    for each in objects:
        check(each)
    pods = {each["metadata"]["name"]: pod_of(each) for each in objects if each["kind"] == "Deployment"}
    claims = {
        name: volume["persistentVolumeClaim"]["claimName"]
        for name, pod in pods.items()
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"importer": "images", "converter": "images"}
    assert pods["converter"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert environment(pods["converter"]["containers"][0])["TINTYPE_CONVERTER__UNSAFE_NO_SANDBOX"] == "true"


# --- pods -------------------------------------------------------------------------------------------------------------


def offences(pod: Object) -> Iterator[str]:
    """What the Pod Security Standard "restricted" forbids, and what is stricter here."""
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "a namespace of the host"
    own = pod.get("securityContext", {})
    if own.get("runAsNonRoot") is not True or own.get("runAsUser") not in (TINTYPE_USER, POSTGRES_USER):
        yield "user"
    if own.get("seccompProfile") not in ({"type": "RuntimeDefault"}, JAIL_PROFILE):
        yield "seccomp"
    if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
        yield "token or links"
    kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
    if not kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "csi"}:
        yield "volumes"
    for container in containers_of(pod):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield "privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield "root file system"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield "capabilities"
        if "runAsUser" in context or context.get("seccompProfile", {}).get("type") == "Unconfined":
            yield "a context that overrides the pod's"


@every_deployment
def test_a_pod_is_restricted(overlay: str, name: str) -> None:
    pod = pod_of(of_kind(overlay, "Deployment")[name])
    assert not list(offences(pod))
    user = POSTGRES_USER if name == "postgresql" else TINTYPE_USER
    assert {pod["securityContext"][field] for field in ("runAsUser", "runAsGroup", "fsGroup")} == {user}


@every_overlay
def test_the_jail_alone_has_a_filter_of_system_calls_of_its_own(overlay: str) -> None:
    pods = {name: pod_of(deployment) for name, deployment in of_kind(overlay, "Deployment").items()}
    assert [name for name in pods if pods[name]["securityContext"]["seccompProfile"] == JAIL_PROFILE] == ["converter"]
    assert (ROOT / "deploy" / "seccomp" / "converter.json").is_file()


@pytest.mark.parametrize(
    ("offence", "field", "value"),
    [
        ("a namespace of the host", "hostNetwork", True),
        ("user", "securityContext", {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}),
        ("seccomp", "securityContext", {"runAsNonRoot": True, "runAsUser": 10001}),
        ("token or links", "automountServiceAccountToken", True),
        ("volumes", "volumes", [{"name": "host", "hostPath": {"path": "/"}}]),
    ],
)
def test_a_pod_that_is_not_restricted_is_seen(offence: str, field: str, value: object) -> None:
    pod = {**pod_of(of_kind("external", "Deployment")["catalog"]), field: value}
    assert list(offences(pod)) == [offence]


@every_deployment
def test_a_pod_has_an_account_of_its_own_without_a_token(overlay: str, name: str) -> None:
    account = pod_of(of_kind(overlay, "Deployment")[name])["serviceAccountName"]
    assert account == name
    assert of_kind(overlay, "ServiceAccount")[account]["automountServiceAccountToken"] is False


@every_deployment
def test_a_container_has_requests_and_limits(overlay: str, name: str) -> None:
    for container in containers_of(pod_of(of_kind(overlay, "Deployment")[name])):
        for kind in ("requests", "limits"):
            assert set(container["resources"][kind]) >= {"cpu", "memory"}


@every_deployment
def test_a_deployment_has_every_probe(overlay: str, name: str) -> None:
    (container,) = pod_of(of_kind(overlay, "Deployment")[name])["containers"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


@every_overlay
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_ready_by_grpc_and_alive_whatever_it_waits_for(overlay: str, name: str) -> None:
    (container,) = pod_of(of_kind(overlay, "Deployment")[name])["containers"]
    assert container["readinessProbe"]["grpc"] == {"port": 9293}
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/livez", "port": "metrics"}


@every_overlay
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_not_killed_while_it_drains(overlay: str, name: str) -> None:
    pod = pod_of(of_kind(overlay, "Deployment")[name])
    (container,) = pod["containers"]
    (seconds,) = container["lifecycle"]["preStop"]["exec"]["command"][1:]
    drain_s = environment(container)[f"TINTYPE_{name.upper()}__DRAIN_S"]
    # What was begun and is not in the log is taken back after the drain.
    assert pod["terminationGracePeriodSeconds"] >= float(seconds) + float(drain_s) + 15


@every_overlay
@pytest.mark.parametrize("name", REPLICATED)
def test_replicas_are_spread_and_go_one_by_one(overlay: str, name: str) -> None:
    deployment = of_kind(overlay, "Deployment")[name]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    budgets = [
        budget
        for budget in of_kind(overlay, "PodDisruptionBudget").values()
        if selects(budget["spec"]["selector"], labels)
    ]
    assert [budget["spec"]["maxUnavailable"] for budget in budgets] == [1]
    spread = pod_of(deployment)["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert all(selects(each["labelSelector"], labels) for each in spread)
    assert all(each["matchLabelKeys"] == ["pod-template-hash"] for each in spread)
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@every_deployment
def test_an_image_has_a_version(overlay: str, name: str) -> None:
    for container in containers_of(pod_of(of_kind(overlay, "Deployment")[name])):
        image, colon, tag = container["image"].rpartition(":")
        assert colon and tag != "latest"
        if "tintype/" in image:
            assert tag == tintype.__version__


# --- what refers to what ----------------------------------------------------------------------------------------------


def environment(container: Object) -> dict[str, str]:
    """The variables that a container is given."""
    return {each["name"]: each["value"] for each in container.get("env", [])}


@every_deployment
def test_a_pod_mounts_what_it_has_and_has_what_it_mounts(overlay: str, name: str) -> None:
    pod = pod_of(of_kind(overlay, "Deployment")[name])
    mounted = {mount["name"] for container in containers_of(pod) for mount in container.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@every_deployment
def test_a_volume_refers_to_what_there_is(overlay: str, name: str) -> None:
    for volume in pod_of(of_kind(overlay, "Deployment")[name])["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            assert claim["claimName"] in of_kind(overlay, "PersistentVolumeClaim")
        if (source := volume.get("configMap")) and not source.get("optional"):
            assert source["name"] in of_kind(overlay, "ConfigMap")


@every_overlay
def test_every_secret_is_made_by_somebody_and_used_by_somebody(overlay: str) -> None:
    used = {
        secret: optional
        for deployment in of_kind(overlay, "Deployment").values()
        for secret, optional in secrets_used(pod_of(deployment))
    }
    issued = {each["spec"]["secretName"] for each in of_kind(overlay, "Certificate").values()}
    certificates = {name for name in used if name.endswith("-tls")}
    if issued:
        assert issued - {"tintype-ca"} == certificates
    needed = {name for name, optional in used.items() if not optional} - certificates
    assert needed <= set(examples(overlay)) <= set(used)


@every_overlay
def test_what_scales_a_deployment_owns_its_replicas(overlay: str) -> None:
    deployments = of_kind(overlay, "Deployment")
    scalers = [*of_kind(overlay, "HorizontalPodAutoscaler").values(), *of_kind(overlay, "ScaledObject").values()]
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    assert len(targets) == len(set(targets))
    for name, deployment in deployments.items():
        assert ("replicas" not in deployment["spec"]) or name not in targets
    if scalers:
        assert set(targets) == set(REPLICATED)


@every_overlay
def test_a_service_leads_to_ports_that_its_pods_have(overlay: str) -> None:
    for service in of_kind(overlay, "Service").values():
        (deployment,) = (
            each
            for each in of_kind(overlay, "Deployment").values()
            if service["spec"]["selector"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
        )
        (container,) = pod_of(deployment)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


def test_the_rules_for_the_operator_are_those_of_the_alerts() -> None:
    assert RULE.read_text() == prometheus_rule(), "run `make docs`"


def test_the_dashboard_is_the_one_of_the_repository() -> None:
    dashboard = of_kind("external", "ConfigMap")["tintype-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"] == {
        "tintype.json": (ROOT / "deploy" / "grafana" / "dashboards" / "tintype.json").read_text()
    }


def test_prometheus_scrapes_every_service() -> None:
    (monitor,) = of_kind("external", "ServiceMonitor").values()
    (endpoint,) = monitor["spec"]["endpoints"]
    scraped = {
        name
        for name, service in of_kind("external", "Service").items()
        if selects(monitor["spec"]["selector"], service["metadata"]["labels"])
        and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    }
    assert scraped == set(SERVICES)


def test_the_operator_gives_a_service_the_job_and_labels_that_alerts_ask_for() -> None:
    (monitor,) = of_kind("external", "ServiceMonitor").values()
    (endpoint,) = monitor["spec"]["endpoints"]
    (job,) = endpoint["relabelings"]
    assert endpoint["honorLabels"] is True
    assert job["targetLabel"] == "job"
    assert job["sourceLabels"] == ["__meta_kubernetes_service_label_app_kubernetes_io_name"]
    services = of_kind("external", "Service")
    jobs = {
        job["replacement"].replace("$1", services[name]["metadata"]["labels"]["app.kubernetes.io/name"])
        for name in SERVICES
    }
    composed = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert jobs == {each["job_name"] for each in composed["scrape_configs"]}
