"""The dashboard is what its source says, asks for what there is, and is where its provisioning looks for it."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.backends.prometheus import promtool
from tests.packaging.promql import require_known
from tools.draw_dashboard import DASHBOARD, drawn

GRAFANA = DASHBOARD.parents[1]
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def test_the_dashboard_is_as_it_is_drawn() -> None:
    assert DASHBOARD.read_text() == drawn(), "run `make docs`"


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: str(query[0]))
def test_a_panel_asks_for_metrics_labels_and_values_that_there_are(query: tuple[str, str]) -> None:
    require_known(query[1])


@pytest.mark.prometheus
def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression) in enumerate(QUERIES)
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "panels.yml")


def test_every_panel_says_what_it_shows_and_heeds_what_is_chosen() -> None:
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert 'job=~"$job", instance=~"$instance"' in target["expr"] or "ALERTS{" in target["expr"]
    assert [variable["name"] for variable in BOARD["templating"]["list"]] == ["datasource", "job", "instance"]


def test_panels_have_numbers_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for one, other in combinations((panel["gridPos"] for panel in BOARD["panels"]), 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_above, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in BOARD["panels"])


def test_grafana_is_given_the_data_source_and_the_dashboard() -> None:
    (sources,) = (GRAFANA / "provisioning" / "datasources").glob("*.yaml")
    (source,) = yaml.safe_load(sources.read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    (dashboards,) = (GRAFANA / "provisioning" / "dashboards").glob("*.yaml")
    (provider,) = yaml.safe_load(dashboards.read_text())["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/var/lib/grafana/dashboards")
