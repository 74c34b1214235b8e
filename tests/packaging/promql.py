"""What a PromQL expression asks for, and what there is: the code's metrics, with their labels and these' values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

import tintype.runtime.metrics as service_metrics
from tintype.adapters.decorators.metrics import StoreMetrics
from tintype.api.catalog.v1 import catalog_pb2
from tintype.api.converter.v1 import converter_pb2
from tintype.api.importer.v1 import importer_pb2
from tintype.api.signer.v1 import signer_pb2
from tintype.domain import errors
from tintype.domain.events import Step
from tintype.domain.lifecycle import Status
from tintype.embedded.stack_settings import SERVICES
from tintype.ports.image_store import StoreMode
from tintype.runtime.step_metrics import Outcome

TARGET_LABELS = frozenset({"job", "instance"})
"""What Prometheus adds to everything that it scrapes."""

STANDARD = frozenset(
    {
        "up",
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    }
)
"""What Prometheus, and prometheus_client for every process, have by themselves."""

_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
_SELECTOR = re.compile(r"\b((?:tintype|process)_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield each metric that is asked for, with its matchers: label, operator, value."""
    for name, matchers in _SELECTOR.findall(expression):
        yield (
            name,
            [(label, operator, value.replace("\\\\", "\\")) for label, operator, value in _MATCHER.findall(matchers)],
        )


def grouping_labels(expression: str) -> set[str]:
    """The labels that are kept by aggregations."""
    return {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(",")}


def _instruments() -> Iterator[MetricWrapperBase]:
    for holder in (vars(service_metrics), vars(StoreMetrics(CollectorRegistry()))):
        yield from (value for value in holder.values() if isinstance(value, MetricWrapperBase))


def _series(instruments: Iterable[MetricWrapperBase]) -> Iterator[tuple[str, frozenset[str]]]:
    for instrument in instruments:
        (family,) = instrument.describe()
        for suffix in _SUFFIXES[family.type]:
            labels = {*instrument._labelnames, *(("le",) if suffix == "_bucket" else ())}
            yield f"{family.name}{suffix}", frozenset(labels)


KNOWN: Mapping[str, frozenset[str]] = {
    **dict(_series(_instruments())),
    **dict.fromkeys(STANDARD, frozenset()),
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
}
"""The labels of every series that there is, besides those of the target."""

REASONS = {each.reason for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "reason")}


GRPC_CODES = {code.name for code in grpc.StatusCode}


def _methods(modules: Iterable[Any]) -> set[str]:
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return {method.name for service in services for method in service.methods}


_JAIL = {"ok", "failed", "timed_out", "killed", "cancelled"}
_STORE_CALLS = {"open_write", "append", "commit", "read", "read_uncommitted", "stat", "delete", "list", "check"}
_VALUES: Mapping[str, set[str]] = {
    "method": _methods((catalog_pb2, importer_pb2, converter_pb2, signer_pb2)),
    "code": GRPC_CODES,
    "step": {step.value for step in Step},
    "reason": REASONS,
    "mode": {mode.value for mode in StoreMode},
    "status": {status.value for status in Status},
    "operation": _STORE_CALLS,
    "job": {f"tintype-{service}" for service in SERVICES},
    "check": {"event log", "stores", "projection", "database", "store main", "tintype.checkpoints"},
    "alertstate": {"firing", "pending"},
}
_OUTCOMES: Mapping[str, set[str]] = {
    "tintype_step_seconds": {outcome.value for outcome in Outcome},
    "tintype_jail_runs": _JAIL,
    "tintype_store_operations": REASONS | {"OK", "CANCELLED"},
}


def possible_values(name: str, label: str) -> set[str] | None:
    """The values that a label can have there; ``None`` where a deployment chooses them."""
    if label == "outcome":
        return next(values for prefix, values in _OUTCOMES.items() if name.startswith(prefix))
    return _VALUES.get(label)


def require_known(expression: str) -> None:
    """Fail unless all that is asked for exists, and every value that is matched can occur."""
    asked = list(selectors(expression))
    assert asked, f"asks for nothing: {expression}"
    for name, matchers in asked:
        assert name in KNOWN, f"no such metric: {name}"
        for label, operator, value in matchers:
            assert label in KNOWN[name] | TARGET_LABELS, f"{name} has no label {label}"
            _require_possible(name, label, value, is_pattern=operator.endswith("~"))
    labels = frozenset[str]().union(*(KNOWN[name] for name, _ in asked)) | TARGET_LABELS | {"alertname"}
    assert grouping_labels(expression) <= labels, f"groups by labels that are not there: {expression}"


def _require_possible(name: str, label: str, value: str, *, is_pattern: bool) -> None:
    possible = possible_values(name, label)
    if possible is None or value.startswith("$"):
        return
    # Each alternative has to be able to match: one that cannot is a misspelt one.
    for alternative in value.split("|") if is_pattern else (value,):
        matches = [
            each for each in possible if (re.fullmatch(alternative, each) if is_pattern else each == alternative)
        ]
        assert matches, f"{label} of {name} is never {alternative!r}"
