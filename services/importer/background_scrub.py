"""The scrub that never ends: slowly over all copies, then a pause, then again.

Each importer goes by itself over all images in an order of chance. So several find damage sooner, each at the rate that
it is given; and one that is restarted again and again does not look at the same images each time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from services.importer.active_images import active_images
from services.importer.scrubbing import Finding, Scrubber
from tintype.domain.errors import TintypeError, UnavailableError
from tintype.domain.values import ImageId
from tintype.ports.event_log import EventLog
from tintype.runtime.token_bucket import TokenBucket

log = structlog.get_logger(__name__)

ACTOR = "service:scrubber"

LEAST_CHARGE = 256 * 1024
"""What an image costs at least, in bytes of the rate: its history is read too, however small it is."""

FIRST_PAUSE_S = 120.0
"""A process that has just been started has other things to do."""

RETRY_S = 60.0

Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class ScrubLimits:
    """At most ``rate_bytes_s`` (0: no scrub), and a pause of ``interval_s`` between two rounds."""

    rate_bytes_s: int
    interval_s: float


class BackgroundScrub:
    """Round after round, until cancelled."""

    def __init__(
        self, scrubber: Scrubber, event_log: EventLog, limits: ScrubLimits, *, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._scrubber = scrubber
        self._log = event_log
        self._limits = limits
        self._sleep = sleep
        self._pace = TokenBucket(limits.rate_bytes_s)

    async def run(self) -> None:
        """Scrub until cancelled, whatever happens; with a rate of 0, only wait for that."""
        if not self._limits.rate_bytes_s:
            await asyncio.Event().wait()
        await self._sleep(min(FIRST_PAUSE_S, self._limits.interval_s))
        while True:
            pause_s = RETRY_S
            try:
                await self.round()
                pause_s = self._limits.interval_s
            except UnavailableError as exc:
                log.warning("scrub was ended early", reason=exc.reason, error=str(exc))
            except Exception:  # what ends a background task ends the process, and with it the uploads
                log.exception("scrub crashed")
            await self._sleep(pause_s)

    async def round(self) -> None:
        """Scrub every copy of every image once.

        Raises:
            EventLogUnavailableError: the log does not answer.
        """
        images = list(await active_images(self._log))
        random.shuffle(images)
        log.info("scrub began", images=len(images))
        damaged = healed = 0
        for image_id in images:
            for finding in await self._scrub(image_id):
                damaged += 1
                healed += finding.is_healed
        log.info("scrub ended", images=len(images), findings=damaged, healed=healed)

    async def _scrub(self, image_id: ImageId) -> list[Finding]:
        findings: list[Finding] = []
        done = 0
        try:
            async with aclosing(self._scrubber.scrub([image_id], pace=self._pace, actor=ACTOR)) as steps:
                async for step in steps:
                    done = step.done
                    if step.finding:
                        findings.append(step.finding)
        except UnavailableError:
            raise
        except TintypeError as exc:
            log.error("image cannot be scrubbed", image_id=image_id, reason=exc.reason, error=str(exc))
        await self._pace.take(max(0, LEAST_CHARGE - done))
        return findings
