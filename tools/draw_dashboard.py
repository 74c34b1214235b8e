"""Draws deploy/grafana/dashboards/tintype.json: part of `make docs`. A test keeps the two the same."""

from __future__ import annotations

import json
from pathlib import Path

from tools.dashboard import image_rows, service_rows
from tools.dashboard.expressions import chosen
from tools.dashboard.panels import dashboard_json
from tools.dashboard.variables import ANNOTATIONS, VARIABLES

DASHBOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards" / "tintype.json"
ROWS = (
    service_rows.AT_A_GLANCE,
    service_rows.CALLS,
    image_rows.ROAD,
    image_rows.BYTES,
    image_rows.STORES,
    image_rows.LOG,
    service_rows.JAIL,
    service_rows.RESOURCES,
)


def drawn() -> str:
    """The file as it should be."""
    return json.dumps(dashboard_json(ROWS, VARIABLES, ANNOTATIONS, chosen), indent=2) + "\n"


def main() -> None:
    """Write the file."""
    DASHBOARD.write_text(drawn())


if __name__ == "__main__":
    main()
