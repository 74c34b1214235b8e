"""What a service counts and measures, as Prometheus reads it: every instrument, and nothing that uses one.

All are on ``prometheus_client``'s default registry, which :mod:`tintype.runtime.metrics_port` serves. Dashboards and
alert rules know these names. Labels have few values, and none of a caller's choosing: no image, no project, no text.

What stores do is measured by :class:`tintype.adapters.decorators.metrics.StoreMetrics`.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_STEP_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_APPEND_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

# --- calls ------------------------------------------------------------------------------------------------------------

RPC_SECONDS = Histogram(
    "tintype_rpc_seconds",
    "Seconds that calls took, by how they ended; what names no method of the service is `other`.",
    ("service", "method", "code"),
    buckets=_CALL_SECONDS,
)
RPC_IN_PROGRESS = Gauge("tintype_rpc_in_progress", "Calls that are being answered.", ("service", "method"))

# --- work -------------------------------------------------------------------------------------------------------------

STEP_SECONDS = Histogram(
    "tintype_step_seconds",
    "Seconds that attempts at steps took: done; failed for good; to be retried; overtaken by somebody else.",
    ("worker", "step", "outcome"),
    buckets=_STEP_SECONDS,
)
STEP_FAILURES = Counter(
    "tintype_step_failures", "Attempts at steps that failed, for good or to be retried, by reason.", ("step", "reason")
)
STEPS_IN_PROGRESS = Gauge("tintype_steps_in_progress", "Steps that are being worked on.", ("worker", "step"))
STEPS_WAITING = Gauge(
    "tintype_steps_waiting", "Of these, steps that wait for a key manager that does not answer.", ("worker", "step")
)
BYTES = Counter(
    "tintype_bytes",
    "Bytes of images that were moved: upload, web_download, download, copy, conversion (read), scrub.",
    ("road",),
)
QUEUE_PENDING = Gauge("tintype_queue_pending", "Events of a work queue that nobody has taken yet.", ("queue",))
QUEUE_IN_HAND = Gauge("tintype_queue_in_hand", "Events of a work queue that somebody has taken.", ("queue",))
QUEUE_REDELIVERED = Gauge(
    "tintype_queue_redelivered",
    "Events of a work queue that were handed out again, and are not done.",
    ("queue",),
)

# --- the log ----------------------------------------------------------------------------------------------------------

LOG_CONNECTED = Gauge("tintype_log_connected", "1 while there is a connection to the event log.")
LOG_HEAD = Gauge("tintype_log_head", "Position of the newest event in the log.")
LOG_APPEND_SECONDS = Histogram(
    "tintype_log_append_seconds", "Seconds until an event was in the log, or was not.", buckets=_APPEND_SECONDS
)
EVENTS_UNDECODABLE = Counter(
    "tintype_events_undecodable", "Times that an event was met in the log that could not be decoded."
)

# --- the catalog ------------------------------------------------------------------------------------------------------

PROJECTION_POSITION = Gauge("tintype_projection_position", "Log position that the catalog's tables have reached.")
PROJECTION_LAG_SECONDS = Gauge(
    "tintype_projection_lag_seconds", "For how long an event has been in the log that the catalog's tables do not have."
)
LOG_REPLACED = Counter(
    "tintype_log_replaced", "How often the catalog's tables had to be built anew because the log was another one."
)
IMAGES = Gauge("tintype_images", "Images by status; deleted ones included.", ("status",))
OPERATIONS_RUNNING = Gauge("tintype_operations_running", "Operations that have steps to do.")
OLDEST_OPERATION_SECONDS = Gauge(
    "tintype_oldest_operation_seconds", "How long ago the oldest of them began; 0 if there is none."
)

# --- the process ------------------------------------------------------------------------------------------------------

JAIL_RUNS = Counter(
    "tintype_jail_runs",
    "Runs of tools in the jail by how they ended: ok, failed, timed_out, killed by a signal, or cancelled by us.",
    ("tool", "outcome"),
)
LOOP_STALL_SECONDS = Counter(
    "tintype_loop_stall_seconds", "Seconds that the event loop stood still, in stalls over 50 ms."
)
CHECK_OK = Gauge("tintype_check_ok", "1 if the newest check of that part succeeded.", ("check",))
BUILD_INFO = Gauge("tintype_build_info", "1 for the version that runs.", ("version",))
CERTIFICATE_EXPIRY = Gauge(
    "tintype_certificate_expiry_timestamp_seconds", "When the certificate of a file expires.", ("file",)
)
RELOAD_OK = Gauge(
    "tintype_reload_ok", "1 while files are used as they are; 0 while what was read before holds on.", ("what",)
)
RELOAD_FAILURES = Counter(
    "tintype_reload_failures", "Changed files that could not be used; what was read before holds on.", ("what",)
)
