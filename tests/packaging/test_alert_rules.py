"""The alert rules fire when they must, ask for what there is, and each leads to a runbook."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from tests.backends.prometheus import promtool
from tests.packaging.promql import GRPC_CODES, REASONS, require_known
from tintype.cli.app import app

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "alerts"
RUNBOOKS = ROOT / "docs" / "runbooks"
UNIT_TESTS = Path(__file__).parent / "alerts"
FILES = sorted(ALERTS.glob("*.yml"))
RULES: list[dict[str, Any]] = [
    rule for path in FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
COMMAND_LINE = typer.main.get_command(app)
LOGGED = "".join(path.read_text() for folder in ("services", "tintype") for path in (ROOT / folder).rglob("*.py"))
"""Whatever a service writes into its log stands there."""

SECTIONS = ["What it means", "What users feel", "Look", "Mend", "It is over when"]


def expectations() -> dict[str, set[bool]]:
    """Of each alert, whether the unit tests have moments at which it fires, and moments at which it does not."""
    found: dict[str, set[bool]] = {}
    for path in UNIT_TESTS.glob("*.yml"):
        for group in yaml.safe_load(path.read_text())["tests"]:
            for test in group["promql_expr_test"]:
                (name,) = re.findall(r'alertname="(\w+)"', test["expr"])
                found.setdefault(name, set()).add(bool(test["exp_samples"]))
    return found


@pytest.mark.prometheus
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", *FILES)


@pytest.mark.prometheus
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_alerts_fire_when_they_must_and_only_then(path: Path) -> None:
    promtool("test", "rules", path.name, directory=UNIT_TESTS)


def test_every_alert_is_tested_both_ways() -> None:
    assert expectations() == {name: {True, False} for name in NAMES}


@pytest.mark.prometheus
def test_prometheus_takes_its_configuration_with_the_rules_beside_it(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / "prometheus" / "prometheus.yml", tmp_path)
    shutil.copytree(ALERTS, tmp_path / "alerts")
    promtool("check", "config", tmp_path / "prometheus.yml")
    (tmp_path / "alerts" / "broken.yml").write_text("groups: 1")
    with pytest.raises(AssertionError, match=r"broken\.yml"):
        promtool("check", "config", tmp_path / "prometheus.yml")


def test_alerts_have_names_of_their_own() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_metrics_labels_and_values_that_there_are(rule: dict[str, Any]) -> None:
    require_known(rule["expr"])


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_what_it_means_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"] and rule["annotations"]["description"]
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{rule['alert']}.md"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_answers_every_question(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    parts = re.split(r"^## .+$", text, flags=re.MULTILINE)
    assert all(part.strip() for part in parts)


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_names_reasons_that_there_are(name: str) -> None:
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", (RUNBOOKS / f"{name}.md").read_text()))
    assert named <= REASONS | GRPC_CODES | {"NOT_SERVING"}


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_gives_commands_that_there_are(name: str) -> None:
    for line in re.findall(r"^\$ tintype (.+?)(?: +#.*| \|.*)?$", (RUNBOOKS / f"{name}.md").read_text(), re.MULTILINE):
        command: Any = COMMAND_LINE
        for word in line.split():
            subcommands = getattr(command, "commands", {})
            if word.startswith("-"):
                assert any(word in parameter.opts for parameter in command.params), line
            elif subcommands:
                assert word in subcommands, line
                command = subcommands[word]


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_looks_for_lines_that_are_logged(name: str) -> None:
    for wanted in re.findall(r"grep (?:-E )?'([^']+)'", (RUNBOOKS / f"{name}.md").read_text()):
        assert [text for text in wanted.split("|") if text not in LOGGED and text != '"level": "error"'] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_asks_for_metrics_that_there_are(name: str) -> None:
    for expression in re.findall(
        r"^```promql\n(.+?)^```$", (RUNBOOKS / f"{name}.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        for line in expression.strip().splitlines():
            require_known(line)
