"""PromQL that several panels ask.

`$on` in an expression stands for the services and instances that are chosen above the dashboard.
"""

from __future__ import annotations

_CHOSEN = 'job=~"$job", instance=~"$instance"'
_FAILURES = 'code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED"'
_CALLS = "sum by (job) (rate(tintype_rpc_seconds_count{$on}[$__rate_interval]))"
_FAILED_CALLS = f"sum by (job) (rate(tintype_rpc_seconds_count{{$on, {_FAILURES}}}[$__rate_interval]))"

FAILED_RATIO = f"({_FAILED_CALLS} or 0 * {_CALLS}) / {_CALLS}"
"""Share of the calls that failed by no fault of the caller; where none did, there is no series of them."""


def quantile(share: float, histogram: str, *labels: str) -> str:
    """What that share of the observations is below, for each combination of the labels."""
    kept = ", ".join((*labels, "le"))
    return f"histogram_quantile({share}, sum by ({kept}) (rate({histogram}_bucket{{$on}}[$__rate_interval])))"


def chosen(expression: str) -> str:
    """The expression for what is chosen above the dashboard."""
    return expression.replace("$on", _CHOSEN)
