"""The distribution's own nats-server, which is older than Tintype needs: unpacked for the tests, and never installed."""

from __future__ import annotations
