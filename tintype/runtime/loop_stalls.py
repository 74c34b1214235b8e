"""Notices when the event loop stands still: nothing may block it, and what does is a defect or a starved machine."""

from __future__ import annotations

import asyncio

import structlog

from tintype.runtime.metrics import LOOP_STALL_SECONDS

log = structlog.get_logger(__name__)

INTERVAL_S = 0.01
WORTH_A_WARNING_MS = 50.0


async def watch_for_stalls() -> None:
    """Warn of each stall over 50 ms, and tell the longest one when cancelled."""
    loop = asyncio.get_running_loop()
    longest_ms = 0.0
    try:
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            stall_ms = (loop.time() - due) * 1000
            longest_ms = max(longest_ms, stall_ms)
            if stall_ms > WORTH_A_WARNING_MS:
                LOOP_STALL_SECONDS.inc(stall_ms / 1000)
                log.warning("event loop stood still", stall_ms=round(stall_ms, 1))
    finally:
        log.info("event loop was watched", longest_stall_ms=round(longest_ms, 1))
