"""Subjects carry ids that were checked, and filters let through what is selected."""

from __future__ import annotations

import pytest

from tintype.codec import subjects
from tintype.domain.errors import InvalidIdentifierError
from tintype.domain.events import ImageDeleted, ImageStaged, Progress, Step
from tintype.domain.values import ImageId, ProjectId
from tintype.ports.event_log import Selection
from tintype.testing.events import CREATED, OPERATION, EventBuilder, an_image_id

IMAGE = an_image_id()


def test_an_event_has_one_subject() -> None:
    assert subjects.event_subject(EventBuilder().new(CREATED)) == f"tintype.v1.demo.image.{IMAGE}.created"


@pytest.mark.parametrize(
    ("selection", "filters"),
    [
        (Selection(), ("tintype.v1.*.image.*.>",)),
        (Selection(project=ProjectId("demo")), ("tintype.v1.demo.image.*.>",)),
        (Selection(image_id=IMAGE), (f"tintype.v1.*.image.{IMAGE}.>",)),
        (
            Selection(types=(ImageStaged, ImageDeleted, ImageStaged)),
            ("tintype.v1.*.image.*.deleted", "tintype.v1.*.image.*.staged"),
        ),
    ],
)
def test_a_selection_becomes_filters(selection: Selection, filters: tuple[str, ...]) -> None:
    assert subjects.event_filters(selection) == filters


def test_progress_is_outside_of_what_the_stream_keeps() -> None:
    progress = Progress(IMAGE, ProjectId("demo"), OPERATION, Step.STAGE, 1, 2, EventBuilder().clock.now())
    assert subjects.progress_subject(progress) == f"tintype.v1.demo.progress.{IMAGE}"
    assert subjects.progress_filter(Selection()) == "tintype.v1.*.progress.*"


@pytest.mark.parametrize("hostile", ["*", ">", "a.b", "", " ", "a\r\n"])
def test_an_id_cannot_widen_a_filter(hostile: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        subjects.event_filters(Selection(project=ProjectId(hostile)))
    with pytest.raises(InvalidIdentifierError):
        subjects.history_filter(ImageId(hostile))
    with pytest.raises(InvalidIdentifierError):
        subjects.progress_filter(Selection(image_id=ImageId(hostile)))
