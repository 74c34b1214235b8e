"""The alert rules ask for metrics that there are, by labels and values that they have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from tintype.adapters.decorators.metrics import Metrics, StoreMetrics
from tintype.adapters.memory.store import MemoryImageStore
from tintype.domain import errors
from tintype.ports.image_store import StoreMode
from tintype.testing.clock import FakeClock

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for path in sorted((ROOT / "deploy" / "alerts").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
REASONS = {each.reason for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "reason")}


def known_metrics() -> dict[str, set[str]]:
    """The labels of each metric that stores have."""
    registry = CollectorRegistry()
    metrics = StoreMetrics(registry)
    Metrics(MemoryImageStore("main", clock=FakeClock()), metrics)
    metrics.operations.labels("main", "read", "OK").inc()
    metrics.free.labels("main").set(1)
    metrics.size.labels("main").set(1)
    return {
        sample.name: set(sample.labels)
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


KNOWN = known_metrics()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_metrics_and_labels_that_there_are(rule: dict[str, str]) -> None:
    asked = re.findall(r"(tintype_\w+)(?:\{([^}]*)\})?", rule["expr"])
    assert asked
    for name, matchers in asked:
        assert name in KNOWN
        for label, value in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', matchers):
            assert label in KNOWN[name]
            values = set(value.split("|"))
            match label:
                case "mode":
                    assert values <= {mode.value for mode in StoreMode}
                case "outcome":
                    assert values <= REASONS | {"OK", "CANCELLED"}
                case "operation":
                    assert values <= {"open_write", "append", "commit"}
    for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]):
        assert set(labels.split(", ")) <= set.union(*(KNOWN[name] for name, _ in asked)) | {"instance"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_it_means_and_where_to_read_on(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"] and rule["annotations"]["description"]
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
