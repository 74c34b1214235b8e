"""The rows about images: their road, their bytes, the stores, the log."""

from __future__ import annotations

from tools.dashboard.expressions import quantile
from tools.dashboard.panels import GREEN, RED, YELLOW, Panel, Query, Row

ROAD = Row(
    "The road of an image",
    [
        Panel(
            "Steps",
            "How many attempts at steps end each minute, and how.",
            [
                Query(
                    "60 * sum by (step, outcome) (rate(tintype_step_seconds_count{$on}[$__rate_interval]))",
                    "{{step}} {{outcome}}",
                )
            ],
            is_stacked=True,
        ),
        Panel(
            "Duration of steps, 19 of 20",
            "Staging takes as long as the download, converting as long as the disk is large.",
            [Query(quantile(0.95, "tintype_step_seconds", "step"), "{{step}}")],
            unit="s",
        ),
        Panel(
            "Duration of steps, mean",
            "Seconds that an attempt at a step took.",
            [
                Query(
                    "sum by (step) (rate(tintype_step_seconds_sum{$on}[$__rate_interval]))"
                    " / sum by (step) (rate(tintype_step_seconds_count{$on}[$__rate_interval]) > 0)",
                    "{{step}}",
                )
            ],
            unit="s",
            is_quiet=True,
        ),
        Panel(
            "Failures by reason",
            "Attempts that failed, for good or to be retried, each minute. docs/errors.md has the reasons.",
            [
                Query(
                    "60 * sum by (step, reason) (rate(tintype_step_failures_total{$on}[$__rate_interval]))",
                    "{{step}} {{reason}}",
                )
            ],
            is_stacked=True,
            is_quiet=True,
        ),
        Panel(
            "Steps in progress",
            "What the workers are at.",
            [Query("sum by (worker, step) (tintype_steps_in_progress{$on})", "{{worker}} {{step}}")],
            is_stacked=True,
        ),
        Panel(
            "Waiting for a key manager",
            "Steps that wait for certificates, trusted roots or the service's own keys.",
            [
                Query(
                    "sum by (worker, step) (tintype_steps_waiting{$on} or 0 * tintype_steps_in_progress{$on})",
                    "{{worker}} {{step}}",
                )
            ],
            steps=((0, GREEN), (1, RED)),
        ),
        Panel(
            "Queues: waiting",
            "Events that nobody has taken yet. A new queue reads the log once from its beginning.",
            [Query("max by (queue) (tintype_queue_pending{$on})", "{{queue}}")],
        ),
        Panel(
            "Queues: in hand",
            "Events that somebody works on.",
            [Query("max by (queue) (tintype_queue_in_hand{$on})", "{{queue}}")],
        ),
        Panel(
            "Queues: handed out again",
            "Events of these that are being tried once more.",
            [Query("max by (queue) (tintype_queue_redelivered{$on})", "{{queue}}")],
            steps=((0, GREEN), (1, RED)),
        ),
        Panel(
            "Images by status",
            "All that the catalog has, deleted ones included.",
            [Query("max by (status) (tintype_images{$on})", "{{status}}")],
            width=12,
            is_stacked=True,
        ),
        Panel(
            "Operations",
            "Uploads and imports that have steps to do.",
            [Query("max(tintype_operations_running{$on})", "running")],
            width=12,
        ),
    ],
)

BYTES = Row(
    "Bytes",
    [
        Panel(
            "Bytes by road",
            "What is moved each second: uploads, web downloads, downloads, copies, conversions, scrubbing.",
            [Query("sum by (road) (rate(tintype_bytes_total{$on}[$__rate_interval]))", "{{road}}")],
            unit="Bps",
            width=12,
            is_stacked=True,
        ),
        Panel(
            "Bytes of the stores",
            "Written to and read from each store.",
            [
                Query(
                    "sum by (store) (rate(tintype_store_written_bytes_total{$on}[$__rate_interval]))",
                    "{{store}} written",
                ),
                Query("sum by (store) (rate(tintype_store_read_bytes_total{$on}[$__rate_interval]))", "{{store}} read"),
            ],
            unit="Bps",
            width=12,
        ),
    ],
)

STORES = Row(
    "Stores",
    [
        Panel(
            "What each store is good for",
            "As each instance sees it: 1 for the mode that it is in.",
            [Query("tintype_store_mode{$on} == 1", "{{instance}} {{store}}: {{mode}}")],
            kind="state-timeline",
            words={1: ("is so", GREEN)},
        ),
        Panel(
            "Room that is left",
            "Of each store that knows its size. Below a tenth is an alert.",
            [
                Query(
                    "min by (store) (tintype_store_free_bytes{$on} / (tintype_store_size_bytes{$on} > 0))", "{{store}}"
                )
            ],
            kind="bargauge",
            unit="percentunit",
            maximum=1,
            steps=((0, RED), (0.1, YELLOW), (0.25, GREEN)),
        ),
        Panel(
            "Calls that fail, by reason",
            "docs/errors.md has the reasons.",
            [
                Query(
                    "sum by (store, operation, outcome)"
                    ' (rate(tintype_store_operations_total{$on, outcome!~"OK|CANCELLED"}[$__rate_interval]))',
                    "{{store}} {{operation}} {{outcome}}",
                )
            ],
            unit="ops",
            is_quiet=True,
        ),
        Panel(
            "Calls",
            "To each store, each second.",
            [
                Query(
                    "sum by (store, operation) (rate(tintype_store_operations_total{$on}[$__rate_interval]))",
                    "{{store}} {{operation}}",
                )
            ],
            unit="ops",
        ),
        Panel(
            "Duration, 19 of 20 calls",
            "Of a stream, all of its pieces together.",
            [Query(quantile(0.95, "tintype_store_operation_seconds", "store", "operation"), "{{store}} {{operation}}")],
            unit="s",
        ),
        Panel(
            "Calls that were made again",
            "What a store did not answer at first.",
            [
                Query(
                    "sum by (store, operation) (rate(tintype_store_retries_total{$on}[$__rate_interval]))",
                    "{{store}} {{operation}}",
                )
            ],
            unit="ops",
            is_quiet=True,
        ),
    ],
)

LOG = Row(
    "Log and catalog",
    [
        Panel(
            "Connection to the log",
            "Of each instance.",
            [Query("tintype_log_connected{$on}", "{{job}} {{instance}}")],
            kind="state-timeline",
            words={0: ("away", RED), 1: ("connected", GREEN)},
        ),
        Panel(
            "Events",
            "How many are written to the log each minute.",
            [Query("60 * max(deriv(tintype_log_head{$on}[$__rate_interval]))", "events")],
        ),
        Panel(
            "Duration of appends",
            "Until an event is in the log for good. 19 of 20 over 0.5 s is an alert.",
            [
                Query(quantile(0.5, "tintype_log_append_seconds"), "half"),
                Query(quantile(0.95, "tintype_log_append_seconds"), "19 of 20"),
                Query(quantile(0.99, "tintype_log_append_seconds"), "99 of 100"),
            ],
            unit="s",
        ),
        Panel(
            "Positions",
            "The log's newest event, and how far the tables of each catalog are.",
            [
                Query("max(tintype_log_head{$on})", "log"),
                Query('tintype_projection_position{$on, job="tintype-catalog"}', "{{instance}}"),
            ],
        ),
        Panel(
            "Catalog behind the log",
            "For how long an event has been in the log that the tables do not have.",
            [Query('tintype_projection_lag_seconds{$on, job="tintype-catalog"}', "{{instance}}")],
            unit="s",
            steps=((0, GREEN), (30, RED)),
        ),
        Panel(
            "Events that could not be decoded",
            "Since each instance started: of a newer release, or not of Tintype.",
            [Query("tintype_events_undecodable_total{$on}", "{{job}} {{instance}}")],
            steps=((0, GREEN), (1, RED)),
        ),
    ],
)
