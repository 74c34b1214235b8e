"""The facts as they happen, typed, straight from the log; and the proof that the log is what was once written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from tintype.client.decoding import understood
from tintype.client.errors import InvalidRequestError
from tintype.client.models import Event, ImageEvent, LogCheck, LogFault
from tintype.client.transport import Transport
from tintype.codec import cloudevents, subjects
from tintype.domain.errors import EventTypeUnknownError, TintypeError
from tintype.domain.events import EVENT_TOKENS
from tintype.domain.values import image_id as checked_image_id
from tintype.domain.values import project_id
from tintype.ports.event_log import Selection

if TYPE_CHECKING:
    from tintype.client.log_reader import LogMessage, LogReader

ALL_PROJECTS = "*"

_MAX_FAULTS = 1000


class Events:
    """The log, for whoever may read it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def subscribe(
        self,
        *,
        after: int | None = None,
        project: str | None = None,
        image_id: str | None = None,
        types: Iterable[type[Event] | str] = (),
    ) -> AsyncGenerator[ImageEvent, None]:
        """Yield events behind the position ``after`` (0: from the beginning; ``None``: from now on), for ever.

        Only those of ``project`` (the client's own if it is not given, ``"*"`` for all), of one image, and of some
        ``types`` (classes, or names such as ``"published"``). Keep the ``position`` of the last event that you have
        dealt with: to subscribe ``after`` it misses none, and repeats none.

        Raises:
            InvalidRequestError: an id or a type is none.
            ServiceDefectError: reason ``NOT_UNDERSTOOD``: an event was written by a newer release.
            ServiceUnavailableError: the log does not answer.
        """
        # nats-py takes longer to import than all the rest, and few calls need it.
        from tintype.client.log_reader import open_log

        filters = _filters(self._transport.config.project if project is None else project, image_id, types)
        async with open_log(self._transport) as log, aclosing(log.follow(filters, after)) as messages:
            async for message in messages:
                with understood(f"an event at position {message.position}"):
                    event = cloudevents.decode(
                        message.subject, message.headers, message.payload, position=message.position
                    )
                yield ImageEvent.of(event)

    async def check_log(self, *, on_progress: Callable[[int, int | None], None] | None = None) -> LogCheck:
        """Read the whole log, and verify the chain of hashes of every image in it.

        It finds what was changed, and what is missing between two events of an image. That an image's newest events
        are missing shows only against what somebody remembers of them.

        Raises:
            ServiceUnavailableError: the log does not answer.
        """
        from tintype.client.log_reader import open_log

        chain = _Chains()
        async with open_log(self._transport) as log:
            head = (await log.state()).state.last_seq
            async with aclosing(_until(log, head)) as messages:
                async for message in messages:
                    chain.add(message)
                    if on_progress:
                        on_progress(message.position, head)
        return LogCheck(chain.events, len(chain.tips), head, tuple(chain.faults))


async def _until(log: LogReader, head: int) -> AsyncGenerator[LogMessage, None]:
    if head == 0 or (await log.state()).state.messages == 0:
        return
    async with aclosing(log.follow([subjects.EVERY_EVENT], 0)) as messages:
        async for message in messages:
            if message.position <= head:
                yield message
            if message.position >= head:
                return


class _Chains:
    """The newest version and hash of each image so far, and where its chain is broken."""

    def __init__(self) -> None:
        self.events = 0
        self.tips: dict[str, tuple[int, str]] = {}
        self.faults: list[LogFault] = []

    def add(self, message: LogMessage) -> None:
        """Hold an event against the one before it."""
        self.events += 1
        image = message.subject.split(".")[4]
        try:
            event = cloudevents.decode(message.subject, message.headers, message.payload, position=message.position)
        except EventTypeUnknownError as exc:
            self._fault(image, message.position, f"written by a newer release, and not checked: {exc}")
            self.tips.pop(image, None)
            return
        except TintypeError as exc:
            self._fault(image, message.position, str(exc))
            return
        version, previous = self.tips.get(image, (0, ""))
        if event.version != version + 1:
            self._fault(image, message.position, f"version {event.version} follows version {version}")
        elif event.previous_hash != previous:
            self._fault(image, message.position, "the hash of the event before it is another one")
        self.tips[image] = (event.version, event.hash)

    def _fault(self, image: str, position: int, message: str) -> None:
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(LogFault(image, position, message))


def _filters(project: str, image_id: str | None, types: Iterable[type[Event] | str]) -> tuple[str, ...]:
    by_token = {token: kind for kind, token in EVENT_TOKENS.items()}
    try:
        kinds = tuple(by_token[kind] if isinstance(kind, str) else kind for kind in types)
        selection = Selection(
            project=None if project == ALL_PROJECTS else project_id(project),
            image_id=checked_image_id(image_id) if image_id else None,
            types=kinds,
        )
        return subjects.event_filters(selection)
    except KeyError as exc:
        raise InvalidRequestError(
            f"{str(exc.args[0])[:80]!r} is not a type of event", hint=f"Use some of {', '.join(by_token)}."
        ) from None
    except TintypeError as exc:
        raise InvalidRequestError(str(exc), reason=exc.reason) from exc
