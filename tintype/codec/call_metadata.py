"""What travels beside a call's messages, and is no message itself: who calls, and why a call was refused."""

from __future__ import annotations

PROJECT_KEY = "tintype-project"
"""The tenant that the call is for."""

ACTOR_KEY = "tintype-actor"
"""Who makes the call, as the log shall tell."""

ADMIN_KEY = "tintype-admin"
"""``true`` for a call that sees every project."""

TRACEPARENT_KEY = "traceparent"
"""The trace that the call is a part of: W3C Trace Context."""

TOKEN_KEY = "authorization"
"""``Bearer TOKEN``: who calls, proven."""

SERVICE_KEY = "tintype-service"
"""Which service's health is asked for, where several stand behind one address."""

POSITION_KEY = "tintype-position"
"""Before the first message of a watch: the log position behind which it begins."""

STATUS_TRAILER = "grpc-status-details-bin"
"""The trailer that carries the google.rpc.Status of a refused call."""

ERROR_DOMAIN = "tintype"
"""The ErrorInfo domain of every reason."""

EVIDENCE_PREFIX = "evidence."
"""Before the name of what a refusal is based on, in the ErrorInfo's metadata."""
