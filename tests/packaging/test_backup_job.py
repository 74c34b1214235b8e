"""The job that backs the log up is what Kubernetes takes, and as little as every other pod."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.packaging.manifests import KUBERNETES, Object, containers_of, kubectl, of_kind, pod_of
from tintype.client import load_config


@pytest.fixture
def objects(tmp_path: Path) -> dict[str, Object]:
    """What the component adds to an overlay, by kind."""
    component = os.path.relpath(KUBERNETES / "components" / "backup", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"components": [component]}))
    told = subprocess.run([kubectl(), "kustomize", str(tmp_path)], capture_output=True, text=True, check=True)
    return {each["kind"]: each for each in yaml.safe_load_all(told.stdout)}


@pytest.mark.parametrize("release", ["1.29", "1.37"])
def test_the_job_is_what_kubernetes_takes(objects: dict[str, Object], release: str) -> None:
    assert objects.keys() == {"ConfigMap", "CronJob", "PersistentVolumeClaim"}
    for each in objects.values():
        kubernetes_validate.validate(each, release, strict=True)


def test_the_job_runs_as_nobody_in_a_file_system_that_it_cannot_write_to(objects: dict[str, Object]) -> None:
    pod = objects["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (pod["securityContext"]["runAsUser"], pod["automountServiceAccountToken"]) == (10001, False)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert objects["CronJob"]["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_job_finds_its_script_and_its_configuration(objects: dict[str, Object], tmp_path: Path) -> None:
    files = objects["ConfigMap"]["data"]
    (container,) = objects["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    folder = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "backup")
    (config,) = (each["value"] for each in container["env"] if each["name"] == "TINTYPE_CONFIG")
    assert {container["command"][1], config} == {f"{folder}/{name}" for name in files}
    (tmp_path / "client.toml").write_text(files["client.toml"])
    assert load_config(tmp_path / "client.toml").nats == "tls://nats:4222"


def test_the_job_has_an_image_of_the_release_that_the_services_have(objects: dict[str, Object]) -> None:
    (container,) = objects["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (signer,) = {
        container["image"] for container in containers_of(pod_of(of_kind("evaluation", "Deployment")["signer"]))
    }
    assert container["image"] == signer.replace("/signer:", "/cli:")
    site = yaml.safe_load((KUBERNETES / "overlays" / "external" / "kustomization.yaml").read_text())
    assert {each["name"] for each in site["images"]} >= {"tintype/cli"}
