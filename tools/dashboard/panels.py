"""What Grafana's panels are made of, and how they become the JSON of a dashboard. Ours are in the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 42
"""Of Grafana 12 and 13; later ones bring it up to date as they read it."""

COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED = "green", "yellow", "red"

Json = dict[str, Any]

_NO_LEGEND: Json = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, and how its series are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One thing to look at.

    ``kind`` is Grafana's name of the panel. ``steps`` are the thresholds: from which value which colour, the first one
    from the beginning. ``words`` say a value in words, with its colour. A panel that ``is_quiet`` has nothing to show
    while all is well.
    """

    title: str
    says: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    is_stacked: bool = False
    is_quiet: bool = False
    steps: Sequence[tuple[float, str]] = ((0, GREEN),)
    words: Mapping[float, tuple[str, str]] | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def dashboard_json(
    rows: Sequence[Row], variables: Sequence[Json], annotations: Sequence[Json], complete: Callable[[str], str]
) -> Json:
    """The dashboard as Grafana imports it; ``complete`` makes the expressions what Prometheus is asked."""
    return {
        "annotations": {"list": list(annotations)},
        "description": "Tintype: its services, the road of its images, its stores, its log.",
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [],
        "panels": list(_laid_out(rows, complete)),
        "preload": False,
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["tintype"],
        "templating": {"list": list(variables)},
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": "Tintype",
        "uid": "tintype",
        "version": 1,
    }


def _laid_out(rows: Sequence[Row], complete: Callable[[str], str]) -> Iterator[Json]:
    """Panels from left to right, line by line, each row of them below its heading."""
    y = number = 0
    for row in rows:
        number += 1
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            "id": number,
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        y += 1
        x = line_height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, line_height = 0, y + line_height, 0
            number += 1
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            targets = [
                _target(panel, complete(each.expression), each.legend, index)
                for index, each in enumerate(panel.queries)
            ]
            yield _panel_json(panel, number, place) | {"targets": targets}
            x, line_height = x + panel.width, max(line_height, panel.height)
        y += line_height


def _panel_json(panel: Panel, number: int, place: Json) -> Json:
    return {
        "datasource": DATASOURCE,
        "description": panel.says,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "gridPos": place,
        "id": number,
        "options": _options(panel),
        "title": panel.title,
        "type": panel.kind,
    }


def _target(panel: Panel, expression: str, legend: str, index: int) -> Json:
    is_instant = panel.kind == "bargauge"
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expression,
        "format": "time_series",
        "instant": is_instant,
        "legendFormat": legend or "__auto",
        "range": not is_instant,
        "refId": chr(ord("A") + index),
    }


def _field(panel: Panel) -> Json:
    # Grafana's first threshold has no value: it is from the beginning.
    steps = [{"color": color, "value": value if index else None} for index, (value, color) in enumerate(panel.steps)]
    field: Json = {
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "mappings": _mappings(panel.words or {}),
        "thresholds": {"mode": "absolute", "steps": steps},
        "unit": panel.unit,
    }
    if panel.is_quiet:
        field["noValue"] = "none"
    if panel.kind == "timeseries":
        field["min"] = 0
        field["custom"] = _drawing(panel)
    elif panel.kind == "state-timeline":
        field["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    if panel.maximum is not None:
        field |= {"min": 0, "max": panel.maximum}
    return field


def _drawing(panel: Panel) -> Json:
    return {
        "drawStyle": "line",
        "fillOpacity": 25 if panel.is_stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.is_stacked else "none"},
        "thresholdsStyle": {"mode": "line" if len(panel.steps) > 1 else "off"},
    }


def _mappings(words: Mapping[float, tuple[str, str]]) -> list[Json]:
    options = {
        str(value): {"color": color, "index": i, "text": text} for i, (value, (text, color)) in enumerate(words.items())
    }
    return [{"options": options, "type": "value"}] if options else []


def _options(panel: Panel) -> Json:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "timeseries":
            return {
                "legend": {
                    "calcs": ["lastNotNull", "max"],
                    "displayMode": "table",
                    "placement": "bottom",
                    "showLegend": True,
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            return {
                "colorMode": "value",
                "graphMode": "area",
                "justifyMode": "auto",
                "orientation": "auto",
                "percentChangeColorMode": "standard",
                "reduceOptions": last,
                "showPercentChange": False,
                "textMode": "auto",
                "wideLayout": True,
            }
        case "bargauge":
            return {
                "displayMode": "basic",
                "legend": _NO_LEGEND,
                "maxVizHeight": 300,
                "minVizHeight": 16,
                "minVizWidth": 8,
                "namePlacement": "auto",
                "orientation": "horizontal",
                "reduceOptions": last,
                "showUnfilled": True,
                "sizing": "auto",
                "valueMode": "color",
            }
        case "state-timeline":
            return {
                "legend": _NO_LEGEND,
                "mergeValues": True,
                "rowHeight": 0.8,
                "showValue": "never",
                "tooltip": {"mode": "single", "sort": "none"},
            }
        case _:
            raise ValueError(f"no such kind of panel here: {panel.kind}")
