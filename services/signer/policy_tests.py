"""What today's policy says about images of the past: one of them, or all that the log tells of."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from services.signer.trust import Trust
from services.signer.verifier import SignatureVerifier
from tintype.domain.access import Caller, visible
from tintype.domain.errors import ImageHasNoDataError, LogCorruptError, RefusedContentError
from tintype.domain.events import Failure, ImagePublished, Verification
from tintype.domain.image import Image, failure_of
from tintype.domain.lifecycle import Status
from tintype.domain.values import ImageId, ProjectId
from tintype.ports.event_log import EventLog
from tintype.runtime.following import Entry, UnreadableEvent, entries_until
from tintype.runtime.journal import Journal

log = structlog.get_logger(__name__)

PROGRESS_EVERY = 1000
"""Events of the log between two words on how far it was read."""


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """What a policy (its fingerprint) says about an image: a verification, or why it is refused."""

    image_id: ImageId
    project: ProjectId
    policy: str
    verification: Verification | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ReplayStep:
    """How far the log was read, and how far it goes; some steps bring a verdict."""

    position: int
    head: int
    verdict: PolicyVerdict | None = None


class PolicyTests:
    """Judges by digests that are in the log, and appends nothing."""

    def __init__(self, event_log: EventLog, journal: Journal, verifier: SignatureVerifier, trust: Trust) -> None:
        self._log = event_log
        self._journal = journal
        self._verifier = verifier
        self._trust = trust

    async def test(self, caller: Caller, image_id: ImageId) -> PolicyVerdict:
        """What the policy of the image's project says about it; it need not be published.

        Raises:
            ImageNotFoundError: it does not exist for this caller.
            ImageHasNoDataError: its bytes were never there.
            UnavailableError: certificates or trusted roots cannot be had.
        """
        image = visible(await self._journal.load(image_id), caller)
        has_bytes = image.data or (image.operation and image.operation.staged)
        if not has_bytes:
            raise ImageHasNoDataError(f"image {image.id} has no bytes that a signature could cover")
        return await self._verdict(image)

    async def replay(self, project: ProjectId | None) -> AsyncGenerator[ReplayStep, None]:
        """Judge every image that was published and not deleted, of one project or all; use it within ``aclosing``.

        One image is held at a time, however long the log is.

        Raises:
            UnavailableError: certificates or trusted roots cannot be had.
        """
        head = await self._log.head()
        async with aclosing(entries_until(self._log, head)) as entries:
            async for entry in entries:
                if verdict := await self._verdict_at(entry, project):
                    yield ReplayStep(entry.position, head, verdict)
                elif entry.position % PROGRESS_EVERY == 0:
                    yield ReplayStep(entry.position, head)
        yield ReplayStep(head, head)

    async def _verdict_at(self, event: Entry, project: ProjectId | None) -> PolicyVerdict | None:
        """The verdict on an image where its publication stands in the log, of which there is one; else ``None``."""
        if isinstance(event, UnreadableEvent):
            log.error(
                "policy replay left out an event", position=event.position, reason=event.reason, error=event.error
            )
            return None
        if not isinstance(event.payload, ImagePublished) or (project and event.event.project != project):
            return None
        try:
            image = await self._journal.load(event.image_id)
        except LogCorruptError as exc:  # the image's own history: it is refused, and the others are judged
            return PolicyVerdict(event.image_id, event.event.project, "", failure=failure_of(exc))
        if image is None or image.status is Status.DELETED:
            return None
        return await self._verdict(image)

    async def _verdict(self, image: Image) -> PolicyVerdict:
        try:
            judgment = await self._verifier.verify_recorded(image)
        except RefusedContentError as exc:
            policy = exc.evidence.get("policy") or (await self._trust.rules(image.project)).fingerprint
            return PolicyVerdict(image.id, image.project, policy, failure=failure_of(exc))
        return PolicyVerdict(image.id, image.project, judgment.evidence.policy, verification=judgment.verification)
