"""Draws the generated parts of docs/ from the code: `make docs`. A test keeps the two the same.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; docs/asyncapi.yaml is generated whole.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from services.catalog.settings import CatalogSettings
from services.converter.settings import ConverterSettings
from services.importer.settings import ImporterSettings
from services.signer.settings import SignerSettings
from tintype.adapters.decorators.metrics import StoreMetrics
from tintype.disks.contents import CONTENT_FACTS
from tintype.domain.errors import TintypeError, every_error
from tintype.domain.lifecycle import TRANSITIONS
from tintype.inspect.registry import FactSpec, known_formats
from tintype.inspect.second_opinion import AGREEING
from tintype.runtime import metrics as instruments
from tintype.runtime.error_table import status_code
from tintype.runtime.settings_description import describe
from tools import asyncapi

DOCS = Path(__file__).parents[1] / "docs"
ASYNCAPI = DOCS / "asyncapi.yaml"
_PART = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")


def state_diagram() -> str:
    """The states of an image, in Mermaid: one arrow for each pair, labelled with all that leads across it."""
    arrows: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for (source, trigger), target in TRANSITIONS.items():
        arrows[source.value if source else "[*]", target.value].append(trigger)
    lines = [f"    {source} --> {target}: {', '.join(triggers)}" for (source, target), triggers in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def reasons() -> str:
    """Every reason, what it means, its gRPC status, and whether the same call may succeed later."""
    rows = ["| Reason | Meaning | gRPC status | Retryable |", "|---|---|---|---|"]
    # An adapter may have subclasses of its own, which tell the same reason.
    told = [error for error in every_error() if error.__module__ == TintypeError.__module__]
    for error in sorted((error for error in told if error is not TintypeError), key=lambda e: e.reason):
        meaning = " ".join((error.__doc__ or "").split())
        hint = f" *{error.hint}*" if error.hint else ""
        retryable = "yes" if error.retryable else ""
        rows.append(f"| `{error.reason}` | {meaning}{hint} | `{status_code(error).name}` | {retryable} |")
    return "\n".join(rows)


def settings() -> str:
    """Every setting of every service."""
    parts = []
    for name, settings_class in (
        ("catalog", CatalogSettings),
        ("importer", ImporterSettings),
        ("converter", ConverterSettings),
        ("signer", SignerSettings),
    ):
        parts.append(f"## {name}\n\n```text\n{describe(settings_class).strip()}\n```\n")
    return "\n".join(parts)


def format_rules() -> str:
    """What each format's parser refuses, and the reason that it gives."""
    rows = ["| Format | Refused | Reason | CVE |", "|---|---|---|---|"]
    for disk_format, entry in sorted(known_formats().items()):
        rows += [f"| {disk_format} | {rule.refuses} | `{rule.error.reason}` | {rule.cve} |" for rule in entry.rules]
    return "\n".join(rows)


def format_facts() -> str:
    """What each format's parser reads."""
    rows = ["| Format | Fact | Type | Read from | Meaning |", "|---|---|---|---|---|"]
    for disk_format, entry in sorted(known_formats().items()):
        rows += [_fact_row(str(disk_format), spec) for spec in entry.facts]
    return "\n".join(rows)


def _fact_row(where: str, spec: FactSpec) -> str:
    return f"| {where} | `{spec.key}` | {spec.type.__name__} | {spec.source} | {spec.meaning} |"


def content_facts() -> str:
    """What is read of every disk's contents, whatever its format."""
    rows = ["| Fact | Type | Read from | Meaning |", "|---|---|---|---|"]
    rows += [f"| `{spec.key}` | {spec.type.__name__} | {spec.source} | {spec.meaning} |" for spec in CONTENT_FACTS]
    return "\n".join(rows)


def metrics() -> str:
    """Every metric of every service."""
    rows = ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    found = (*vars(instruments).values(), *vars(StoreMetrics(CollectorRegistry())).values())
    for instrument in found:
        if isinstance(instrument, MetricWrapperBase):
            (family,) = instrument.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in instrument._labelnames)
            rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows)


def second_opinions() -> str:
    """Which answers of the second program agree with each format."""
    rows = ["| Found | The second opinion may be |", "|---|---|"]
    for disk_format, answers in sorted(AGREEING.items()):
        rows.append(f"| {disk_format} | {', '.join(f'`{answer}`' for answer in sorted(answers))} |")
    return "\n".join(rows)


def alerts() -> str:
    """Every alert, in the order of the files of rules."""
    rows = ["| Alert | Severity | It says |", "|---|---|---|"]
    for path in sorted((DOCS.parent / "deploy" / "alerts").glob("*.yml")):
        for rule in (rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]):
            summary = _PLACEHOLDER.sub("…", rule["annotations"]["summary"])
            rows.append(f"| [{rule['alert']}]({rule['alert']}.md) | {rule['labels']['severity']} | {summary} |")
    return "\n".join(rows)


PARTS: Mapping[str, Callable[[], str]] = {
    "state-diagram": state_diagram,
    "reasons": reasons,
    "settings": settings,
    "format-rules": format_rules,
    "format-facts": format_facts,
    "content-facts": content_facts,
    "second-opinion": second_opinions,
    "alerts": alerts,
    "metrics": metrics,
}


def drawn(text: str) -> str:
    """The text of a document with its generated parts as the code has them now."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}\n{part[3]}", text)


def main() -> None:
    """Write every document whose generated parts are out of date."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text()
        if (new := drawn(text)) != text:
            path.write_text(new)
            print(f"drawn: {path.relative_to(DOCS.parent)}")
    ASYNCAPI.write_text(asyncapi.text())


if __name__ == "__main__":
    main()
