"""The subjects that events and progress travel on, which subscribers filter by and NATS permissions confine.

    tintype.v1.<project>.image.<image id>.<event token>     events: the stream keeps them
    tintype.v1.<project>.progress.<image id>                progress: kept nowhere
    tintype.v1.checkpoint                                   signed checkpoints: a stream of their own keeps them
    tintype.v1.store.<store>                                changes of a store's state: the same
    tintype.v1.roll-call                                    which replicas there are: kept nowhere

Every id is checked before it becomes a token, so that no id can widen a filter or reach into another project.
"""

from __future__ import annotations

from collections.abc import Iterable

from tintype.domain.errors import InvalidIdentifierError
from tintype.domain.events import EVENT_TOKENS, Event, NewEvent, Progress
from tintype.domain.values import STORE_NAME, ImageId, ProjectId, image_id, project_id
from tintype.ports.event_log import Selection

STREAM = "TINTYPE_IMAGES"
"""The JetStream stream that keeps the events."""

PREFIX = "tintype.v1"

EVERY_EVENT = f"{PREFIX}.*.image.>"
"""All events of all projects: what the stream takes in."""

CHECKPOINT_STREAM = "TINTYPE_CHECKPOINTS"
"""The JetStream stream that keeps the signed checkpoints."""

CHECKPOINT_SUBJECT = f"{PREFIX}.checkpoint"
"""All that it takes in; no project has that subject, as an event's has more tokens."""

STORE_STREAM = "TINTYPE_STORES"
"""The JetStream stream that keeps the newest changes of each store's state."""

EVERY_STORE = f"{PREFIX}.store.*"
"""All that it takes in; an event has more tokens, and progress too."""

ROLL_CALL = f"{PREFIX}.roll-call"
"""Whoever wants to know which replicas there are asks here; no stream takes it in."""


def store_subject(store: str) -> str:
    """The subject of the changes of one store's state.

    Raises:
        InvalidIdentifierError: it is no store's name.
    """
    if not STORE_NAME.fullmatch(store):
        raise InvalidIdentifierError(f"{store[:80]!r} is not the name of a store")
    return f"{PREFIX}.store.{store}"


def event_subject(event: NewEvent) -> str:
    """The subject of one event.

    Raises:
        InvalidIdentifierError: the project or the image id is malformed.
    """
    return f"{PREFIX}.{project_id(event.project)}.image.{image_id(event.image_id)}.{EVENT_TOKENS[type(event.payload)]}"


def history_filter(image: ImageId) -> str:
    """All events of one image, whichever its project.

    Raises:
        InvalidIdentifierError: the image id is malformed.
    """
    return f"{PREFIX}.*.image.{image_id(image)}.>"


def type_filters(types: Iterable[type[Event]]) -> tuple[str, ...]:
    """All events of some types."""
    return event_filters(Selection(types=tuple(types)))


def event_filters(selection: Selection) -> tuple[str, ...]:
    """The filters that together let the selected events through, and no other; none covers another.

    Raises:
        InvalidIdentifierError: the project or the image id is malformed.
    """
    images = f"{PREFIX}.{_project(selection.project)}.image.{_image(selection.image_id)}"
    tokens = sorted({EVENT_TOKENS[kind] for kind in selection.types}) or [">"]
    return tuple(f"{images}.{token}" for token in tokens)


def progress_subject(progress: Progress) -> str:
    """The subject of one piece of progress.

    Raises:
        InvalidIdentifierError: the project or the image id is malformed.
    """
    return progress_filter(Selection(progress.project, progress.image_id))


def progress_filter(selection: Selection) -> str:
    """The filter for the progress of a project, an image, or all; progress has no types.

    Raises:
        InvalidIdentifierError: the project or the image id is malformed.
    """
    return f"{PREFIX}.{_project(selection.project)}.progress.{_image(selection.image_id)}"


def _project(project: ProjectId | None) -> str:
    return "*" if project is None else project_id(project)


def _image(image: ImageId | None) -> str:
    return "*" if image is None else image_id(image)
