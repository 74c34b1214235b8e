"""Makes the PrometheusRule of deploy/kubernetes out of deploy/alerts: `make docs`. A test keeps the two the same.

The Prometheus operator wants the rules as an object of Kubernetes, and nothing that renders manifests reads other files
into one. So it is generated, and committed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
ALERTS = DEPLOY / "alerts"
RULE = DEPLOY / "kubernetes" / "components" / "monitoring" / "prometheus-rule.yaml"
_HEAD = "# Generated from deploy/alerts by tools/generate_prometheus_rule.py (`make docs`); do not edit.\n"


def prometheus_rule() -> str:
    """The object, as YAML: every group of every file, in the order of their names."""
    groups: list[dict[str, Any]] = []
    for path in sorted(ALERTS.glob("*.yml")):
        groups += yaml.safe_load(path.read_text())["groups"]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "tintype"},
        "spec": {"groups": groups},
    }
    return _HEAD + yaml.safe_dump(rule, sort_keys=False, width=120, allow_unicode=True)


def main() -> None:
    """Write the object if it is out of date."""
    new = prometheus_rule()
    if not RULE.exists() or RULE.read_text() != new:
        RULE.write_text(new)
        print(RULE.relative_to(DEPLOY.parent))


if __name__ == "__main__":
    main()
