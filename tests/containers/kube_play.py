"""Deployments of Kubernetes, run by ``podman kube play``: what it takes of them, and what stands in for the rest.

podman is no cluster. Of the manifests it is given the Deployments with their ConfigMaps, PersistentVolumeClaims and
Secrets, as they are but for what :func:`playable` changes. What a cluster does besides is done here, or not at all:

- Services are names in podman's network, the long ones too. There is no load balancing between replicas.
- Secrets of certificates are issued for the Certificates, as cert-manager does. The files of Secrets get the content,
  the owner, the group and the mode that a kubelet gives them.
- Probes are asked by the test: podman 4.3 knows none by gRPC, and needs systemd for the others.
- ServiceAccounts, NetworkPolicies, PodDisruptionBudgets, autoscalers, and where pods run, are not.
"""

from __future__ import annotations

import base64
import copy
import os
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from tests.packaging.manifests import Object, containers_of, pod_of
from tintype.embedded.authority import Authority

NAMESPACE = "tintype"
NETWORK = "tintype-kubernetes"
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"

Run = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs podman with arguments and, as ``input``, its standard input; raises if it fails."""


def playable(deployment: Object, sources: Collection[str]) -> dict[str, Any]:
    """The Deployment as podman 4.3 takes it, where there are ConfigMaps and Secrets of these names."""
    changed: dict[str, Any] = copy.deepcopy(dict(deployment))
    name, pod = changed["metadata"]["name"], pod_of(changed)
    # It makes one pod of a Deployment, whatever it asks for.
    changed["spec"]["replicas"] = 1
    for container in cast("list[dict[str, Any]]", containers_of(pod)):
        # Ports would be published on this machine, the same ones for every service.
        for name_of_field in (*_PROBES, "ports"):
            container.pop(name_of_field, None)
        for mount in container["volumeMounts"]:
            mount["name"] = f"{name}-{mount['name']}"
    for volume in pod["volumes"]:
        # An emptyDir is a volume of its name, which pods would share.
        volume["name"] = f"{name}-{volume['name']}"
        for kind, naming in (("secret", "secretName"), ("configMap", "name")):
            if kind in volume:
                source = volume[kind]
                is_optional = source.setdefault("optional", False)  # it crashes without the field
                if is_optional and source[naming] not in sources:
                    del volume[kind]
                    volume["emptyDir"] = {}  # as Kubernetes mounts it
    # The field for it came later than the annotation.
    profile = pod["securityContext"]["seccompProfile"]
    if profile["type"] == "Localhost":
        annotation = f"localhost/{Path(profile['localhostProfile']).name}"
        changed["spec"]["template"]["metadata"]["annotations"] = {_SECCOMP: annotation}
    return changed


@dataclass
class KubePlay:
    """Rendered manifests, running."""

    podman: Run
    objects: tuple[Object, ...]
    seccomp_profiles: Path
    directory: Path
    """Where the keys and tokens lie that clients have."""
    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    _before: dict[str, set[str]] = field(default_factory=dict)

    def issue_certificates(self, authority: Authority) -> None:
        """Make the Secrets of all Certificates for services."""
        for certificate in self.of_kind("Certificate").values():
            spec = certificate["spec"]
            if not spec.get("isCA"):
                target = self.directory / spec["secretName"]
                authority.issue(target, spec["dnsNames"])
                self.secrets[spec["secretName"]] = {path.name: path.read_bytes() for path in target.iterdir()}

    def of_kind(self, kind: str) -> dict[str, Object]:
        """The manifests of one kind, by name."""
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}

    def start(self) -> None:
        """Start every Deployment, in the order of the manifests: whoever needs another waits for it."""
        self._before = self._there()
        self.podman("network", "create", NETWORK)
        for name in self.of_kind("Deployment"):
            self.play(name)

    def play(self, name: str) -> None:
        """Start the pod of a Deployment."""
        deployment = playable(self.of_kind("Deployment")[name], {*self.secrets, *self.of_kind("ConfigMap")})
        documents = [*self._sources(deployment), deployment]
        aliases = ",".join(f"alias={alias}" for alias in names_of(name))
        self.podman(
            *("kube", "play", "--start=false", "--seccomp-profile-root", str(self.seccomp_profiles)),
            *("--network", f"{NETWORK}:{aliases}", "-"),
            input=yaml.safe_dump_all(documents),
        )
        self.started.append(name)
        self._lay_out_secrets(deployment)
        self.podman("pod", "start", pod_name(name))

    def _sources(self, deployment: Object) -> Iterable[Object]:
        """What the volumes of a Deployment are made of, but for the volumes that there are already."""
        for volume in pod_of(deployment)["volumes"]:
            claim = volume.get("persistentVolumeClaim")
            if claim and claim["claimName"] not in self.claimed:
                self.claimed.append(claim["claimName"])
                yield self.of_kind("PersistentVolumeClaim")[claim["claimName"]]
            if source := volume.get("configMap"):
                yield self.of_kind("ConfigMap")[source["name"]]
            if source := volume.get("secret"):
                yield secret(source["secretName"], self.secrets[source["secretName"]])

    def _lay_out_secrets(self, deployment: Object) -> None:
        """Make the files of Secrets what a kubelet makes them; podman 4.3 leaves their content in Base64."""
        pod = pod_of(deployment)
        for source in (volume["secret"] for volume in pod["volumes"] if "secret" in volume):
            where = self.podman("volume", "inspect", "--format", "{{.Mountpoint}}", source["secretName"]).stdout.strip()
            for key, content in self.secrets[source["secretName"]].items():
                path = Path(where, key)
                path.write_bytes(content)
                os.chown(path, 0, pod["securityContext"]["fsGroup"])
                path.chmod(source["defaultMode"])

    def address(self, name: str) -> str:
        """The address of a Deployment's pod."""
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        infra = self.podman("pod", "inspect", "--format", "{{.InfraContainerID}}", pod_name(name)).stdout.strip()
        return self.podman("inspect", "--format", template, infra).stdout.strip()

    def logs(self, name: str) -> str:
        """What a pod has logged."""
        result = self.podman("logs", f"{pod_name(name)}-main")
        return result.stdout + result.stderr

    def stop(self) -> None:
        """Remove everything that was started, and its volumes."""
        for name in self.started:
            self.podman("pod", "rm", "--force", "--time", "1", pod_name(name))
        for kind, names in self._there().items():
            for name in names - self._before.get(kind, set()):
                self.podman(kind, "rm", name)
        self.podman("network", "rm", "--force", NETWORK)

    def _there(self) -> dict[str, set[str]]:
        """The volumes and secrets that the engine has."""
        listed = {kind: self.podman(kind, "ls", "--format", "{{.Name}}").stdout for kind in ("volume", "secret")}
        return {kind: set(names.split()) for kind, names in listed.items()}


def pod_name(deployment: str) -> str:
    """What podman calls the pod of a Deployment."""
    return f"{deployment}-pod-0"


def names_of(service: str) -> tuple[str, ...]:
    """How others in the cluster call a Service."""
    return (service, f"{service}.{NAMESPACE}", f"{service}.{NAMESPACE}.svc.cluster.local")


def secret(name: str, content: Mapping[str, bytes]) -> Object:
    """A Secret with these files."""
    data = {key: base64.b64encode(value).decode() for key, value in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
