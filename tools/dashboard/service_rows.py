"""The rows about services: at a glance, their calls, their jail, what they use."""

from __future__ import annotations

from collections.abc import Mapping

from tools.dashboard.expressions import FAILED_RATIO, quantile
from tools.dashboard.panels import GREEN, RED, YELLOW, Panel, Query, Row

_WELL: Mapping[float, tuple[str, str]] = {0: ("fails", RED), 1: ("works", GREEN)}

AT_A_GLANCE = Row(
    "At a glance",
    [
        Panel(
            "Instances that answer",
            "Of all services together. Below four, one service is missing.",
            [Query("sum(up{$on})", "answer")],
            kind="stat",
            width=3,
            height=4,
            steps=((0, RED), (4, GREEN)),
        ),
        Panel(
            "Alerts",
            "Alert rules of Tintype that fire; each has a runbook in docs/runbooks/.",
            [Query('count(ALERTS{alertname=~"Tintype.+", alertstate="firing"}) or vector(0)', "firing")],
            kind="stat",
            width=3,
            height=4,
            steps=((0, GREEN), (1, RED)),
        ),
        Panel(
            "Active images",
            "Images that can be downloaded.",
            [Query('max(tintype_images{$on, status="active"})', "active")],
            kind="stat",
            width=3,
            height=4,
        ),
        Panel(
            "Running operations",
            "Uploads and imports that have steps to do.",
            [Query("max(tintype_operations_running{$on})", "running")],
            kind="stat",
            width=3,
            height=4,
        ),
        Panel(
            "Oldest operation",
            "How long the one has been going on that began first. Over an hour is an alert.",
            [Query("max(tintype_oldest_operation_seconds{$on})", "oldest")],
            kind="stat",
            unit="s",
            width=3,
            height=4,
            steps=((0, GREEN), (1800, YELLOW), (3600, RED)),
        ),
        Panel(
            "Failed calls",
            "Share of the calls that failed by no fault of the caller. Over 5 % is an alert.",
            [Query(f"max({FAILED_RATIO})", "failed")],
            kind="stat",
            unit="percentunit",
            width=3,
            height=4,
            steps=((0, GREEN), (0.01, YELLOW), (0.05, RED)),
        ),
        Panel(
            "Events that wait",
            "In the longest work queue.",
            [Query("max(tintype_queue_pending{$on})", "waiting")],
            kind="stat",
            width=3,
            height=4,
            steps=((0, GREEN), (20, YELLOW), (100, RED)),
        ),
        Panel(
            "Catalog behind the log",
            "For how long events have been in the log that lists do not show yet. Over 30 s is an alert.",
            [Query("max(tintype_projection_lag_seconds{$on})", "behind")],
            kind="stat",
            unit="s",
            width=3,
            height=4,
            steps=((0, GREEN), (5, YELLOW), (30, RED)),
        ),
        Panel(
            "Checks",
            "Whether each instance, and each part without which it goes on, works.",
            [Query("tintype_check_ok{$on}", "{{job}} {{instance}}: {{check}}")],
            kind="state-timeline",
            width=16,
            words=_WELL,
        ),
        Panel(
            "Versions",
            "How many instances run which version; two, while a rolling upgrade goes on.",
            [Query("count by (job, version) (tintype_build_info{$on})", "{{job}} {{version}}")],
            is_stacked=True,
        ),
    ],
)

CALLS = Row(
    "Calls (gRPC)",
    [
        Panel(
            "Calls",
            "How many calls end each second.",
            [
                Query(
                    "sum by (job, method) (rate(tintype_rpc_seconds_count{$on}[$__rate_interval]))",
                    "{{job}} {{method}}",
                )
            ],
            unit="reqps",
        ),
        Panel(
            "Calls that do not end well",
            "By status. NOT_FOUND and the like are the caller's; UNAVAILABLE, INTERNAL, DATA_LOSS are the service's.",
            [
                Query(
                    'sum by (job, code) (rate(tintype_rpc_seconds_count{$on, code!="OK"}[$__rate_interval]))',
                    "{{job}} {{code}}",
                )
            ],
            unit="reqps",
            is_quiet=True,
        ),
        Panel(
            "Failed calls",
            "Share of the calls that failed by no fault of the caller.",
            [Query(FAILED_RATIO, "{{job}}")],
            unit="percentunit",
            steps=((0, GREEN), (0.05, RED)),
        ),
        Panel(
            "Duration, half of the calls",
            "Calls that wait for something (WaitOperation, WatchImages) or move bytes (Read, Write) take that long.",
            [Query(quantile(0.5, "tintype_rpc_seconds", "job", "method"), "{{job}} {{method}}")],
            unit="s",
        ),
        Panel(
            "Duration, 19 of 20 calls",
            "Of commands and queries, over 2 s is an alert.",
            [Query(quantile(0.95, "tintype_rpc_seconds", "job", "method"), "{{job}} {{method}}")],
            unit="s",
        ),
        Panel(
            "Calls in progress",
            "Those that are being answered: transfers and watches for as long as they last.",
            [Query("sum by (job, method) (tintype_rpc_in_progress{$on})", "{{job}} {{method}}")],
            is_stacked=True,
        ),
    ],
)

JAIL = Row(
    "Jail",
    [
        Panel(
            "Runs of tools",
            "On images, each minute, by how they ended.",
            [
                Query(
                    "60 * sum by (tool, outcome) (rate(tintype_jail_runs_total{$on}[$__rate_interval]))",
                    "{{tool}} {{outcome}}",
                )
            ],
            width=12,
            is_stacked=True,
        ),
        Panel(
            "Ended by the jail",
            "Since each instance started: tools that did what they may not, or took more than they may.",
            [
                Query(
                    'sum by (tool, outcome) (tintype_jail_runs_total{$on, outcome=~"killed|timed_out"})',
                    "{{tool}} {{outcome}}",
                )
            ],
            width=12,
            is_quiet=True,
            steps=((0, GREEN), (1, RED)),
        ),
    ],
)

RESOURCES = Row(
    "Resources and certificates",
    [
        Panel(
            "Processor",
            "Cores that each instance uses, without the tools in the jail.",
            [Query("rate(process_cpu_seconds_total{$on}[$__rate_interval])", "{{job}} {{instance}}")],
        ),
        Panel(
            "Memory",
            "Over 1 GiB is an alert.",
            [Query("process_resident_memory_bytes{$on}", "{{job}} {{instance}}")],
            unit="bytes",
            steps=((0, GREEN), (1024**3, RED)),
        ),
        Panel(
            "Open files",
            "Share of those that the process may open.",
            [Query("process_open_fds{$on} / process_max_fds{$on}", "{{job}} {{instance}}")],
            unit="percentunit",
            steps=((0, GREEN), (0.8, RED)),
        ),
        Panel(
            "The event loop stands still",
            "Share of the time, in stalls over 50 ms.",
            [Query("rate(tintype_loop_stall_seconds_total{$on}[$__rate_interval])", "{{job}} {{instance}}")],
            unit="percentunit",
            steps=((0, GREEN), (0.1, RED)),
        ),
        Panel(
            "Running since",
            "How long ago each instance was started.",
            [Query("time() - process_start_time_seconds{$on}", "{{job}} {{instance}}")],
            unit="s",
        ),
        Panel(
            "Files that are read again",
            "Certificates and tokens: whether they are used as they are, or what was read before holds on.",
            [Query("tintype_reload_ok{$on}", "{{job}} {{instance}}: {{what}}")],
            kind="state-timeline",
            is_quiet=True,
            words={0: ("not used", RED), 1: ("used", GREEN)},
        ),
        Panel(
            "Certificates",
            "How long each file is good for. Below a fortnight is an alert.",
            [
                Query(
                    "min by (job, file) (tintype_certificate_expiry_timestamp_seconds{$on}) - time()",
                    "{{job}} {{file}}",
                )
            ],
            kind="bargauge",
            unit="s",
            is_quiet=True,
            steps=((0, RED), (86400, YELLOW), (14 * 86400, GREEN)),
        ),
    ],
)
