"""What is chosen above the dashboard, and what is marked in its graphs."""

from __future__ import annotations

from tools.dashboard.panels import RED, Json


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "definition": query,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }


VARIABLES: list[Json] = [
    {
        "current": {"selected": False, "text": "Prometheus", "value": "prometheus"},
        "includeAll": False,
        "label": "Prometheus",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    },
    _variable("job", "Service", "label_values(tintype_build_info, job)"),
    _variable("instance", "Instance", 'label_values(tintype_build_info{job=~"$job"}, instance)'),
]

ANNOTATIONS: list[Json] = [
    {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    },
    {
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "enable": True,
        "expr": 'ALERTS{alertname=~"Tintype.+", alertstate="firing"}',
        "iconColor": RED,
        "name": "Alerts",
        "step": "60s",
        "titleFormat": "{{alertname}}",
    },
]
