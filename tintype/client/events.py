"""The facts as they happen, typed, straight from the log; and the proof that the log is what was once written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from pathlib import Path

from tintype.client.decoding import understood
from tintype.client.errors import InvalidRequestError
from tintype.client.models import Event, ImageEvent, LogCheck
from tintype.client.store_models import StoreChange
from tintype.client.transport import Transport
from tintype.codec import cloudevents, subjects
from tintype.domain.errors import TintypeError
from tintype.domain.events import EVENT_TOKENS
from tintype.domain.values import image_id as checked_image_id
from tintype.domain.values import project_id
from tintype.ports.event_log import Selection

ALL_PROJECTS = "*"


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

    async def stores(self, *, after: int | None = None, store: str | None = None) -> AsyncGenerator[StoreChange, None]:
        """Yield changes of stores' states behind the position ``after`` (0: all that are kept, the newest 256 of each
        store; ``None``: from now on), for ever; of all stores or of one.

        Raises:
            InvalidRequestError: ``store`` is not the name of a store.
            ServiceDefectError: reason ``NOT_UNDERSTOOD``: a change was written by a newer release.
            ServiceUnavailableError: the log does not answer.
        """
        from tintype.client.log_reader import open_log
        from tintype.codec import store_states

        try:
            subject = subjects.EVERY_STORE if store is None else subjects.store_subject(store)
        except TintypeError as exc:
            raise InvalidRequestError(str(exc), reason=exc.reason) from exc
        async with (
            open_log(self._transport) as log,
            aclosing(log.follow([subject], after, stream=subjects.STORE_STREAM)) as messages,
        ):
            async for message in messages:
                with understood(f"a change of a store at position {message.position}"):
                    told = store_states.decode(message.subject, message.payload)
                state = told.state
                yield StoreChange(
                    message.position,
                    told.store,
                    state.mode,
                    state.since,
                    state.reason,
                    state.message,
                    told.service,
                    told.host,
                )

    async def check_log(
        self,
        *,
        since: bytes | str | None = None,
        trust_store: Path | str | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> LogCheck:
        """Read the whole log, and verify the chain of hashes of every image in it, and all published checkpoints.

        The chains show what was changed, and what is missing between two events of an image. Checkpoints show that
        newest events or whole images vanished, and that a history was written anew. ``since`` is one that you saved
        (its envelope): nothing before it was changed or has vanished, or the answer has a fault
        ``CHECKPOINT_MISMATCH``. The signatures are verified with the certificates in the directory ``trust_store``
        (or ``config.trust_store``), else with the keys that the signer lists.

        Raises:
            ServiceUnavailableError: the log, or the signer, does not answer.
            IntegrityError: ``since`` is no checkpoint, or its signature is not that of a trusted key.
            ConfigurationError: neither a trust store nor a signer is given, and ``since`` needs one of them.
        """
        from tintype.client.log_check import check_log
        from tintype.client.log_reader import open_log

        directory = trust_store or self._transport.config.trust_store
        saved = since.encode() if isinstance(since, str) else since
        async with open_log(self._transport) as log:
            return await check_log(log, self._transport, saved, Path(directory) if directory else None, on_progress)


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
