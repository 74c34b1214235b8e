"""The manifests of deploy/kubernetes as the tests look at them: rendered by kubectl, object by object."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("evaluation", "external")

Object = Mapping[str, Any]


def kubectl() -> str:
    """The program; it comes as a Python package, beside the interpreter."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    assert found, "kubectl is missing: `make install`"
    return found


@functools.cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """Every object of an overlay, as a cluster would be given it."""
    return built(KUBERNETES / "overlays" / overlay)


def built(folder: Path) -> tuple[Object, ...]:
    """Every object of a kustomization."""
    result = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    # A warning is a field that will stop to work.
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return tuple(yaml.safe_load_all(result.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, Object]:
    """The objects of one kind, by name."""
    return {each["metadata"]["name"]: each for each in rendered(overlay) if each["kind"] == kind}


def pod_of(deployment: Object) -> Object:
    """The pods' specification."""
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def containers_of(pod: Object) -> list[Object]:
    """All containers of a pod, those that only prepare it included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def examples(overlay: str) -> dict[str, Object]:
    """The Secrets that an operator makes for an overlay, by name."""
    text = (KUBERNETES / "overlays" / overlay / "secrets.example.yaml").read_text()
    return {each["metadata"]["name"]: each for each in yaml.safe_load_all(text)}


def secrets_used(pod: Object) -> Iterator[tuple[str, bool]]:
    """The names of the Secrets that a pod mounts, and whether it goes without."""
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            yield volume["secret"]["secretName"], volume["secret"].get("optional", False)


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects what has these labels; an empty one selects everything."""
    wanted = selector.get("matchLabels", {}).items()
    named = (
        labels.get(each["key"]) in each["values"] if each["operator"] == "In" else False
        for each in selector.get("matchExpressions", [])
    )
    return wanted <= labels.items() and all(named)
