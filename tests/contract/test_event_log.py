"""Every promise of the port ``EventLog``, asked of every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar, cast

import pytest

from tests.contract.event_logs import EventLogHarness
from tintype.domain.attributes import ImageAttributes
from tintype.domain.errors import (
    ConcurrencyConflictError,
    EventTooLargeError,
    InvalidArgumentError,
    InvalidIdentifierError,
)
from tintype.domain.events import (
    EVENT_TOKENS,
    Event,
    Failure,
    ImageCreated,
    ImageDeleted,
    ImageStaged,
    ImageUpdated,
    Progress,
    RecordedEvent,
    Step,
)
from tintype.domain.hash_chain import require_chain
from tintype.domain.values import ImageId, ProjectId
from tintype.ports.event_log import Delivery, EventLog, Selection, WorkQueue
from tintype.testing.events import ATTRIBUTES, CREATED, EVERY_EVENT, IMPORT_ROAD, OPERATION, EventBuilder, an_image_id

UPDATED = ImageUpdated(ATTRIBUTES, ("name",))
EVERYTHING = Selection()
T = TypeVar("T")


async def append_all(log: EventLog, builder: EventBuilder, *payloads: Event) -> list[RecordedEvent]:
    history = list(await log.history(builder.image_id))
    for payload in payloads:
        history.append(await log.append(builder.new(payload), after=history[-1] if history else None))
    return history


async def first(stream: AsyncIterator[T], count: int) -> list[T]:
    """The next items; the stream goes on behind them."""
    return [await anext(stream) for _ in range(count)]


@asynccontextmanager
async def following(
    log: EventLog, *, after: int = 0, selection: Selection = EVERYTHING
) -> AsyncIterator[AsyncIterator[RecordedEvent]]:
    stream = log.follow(after=after, selection=selection)
    async with aclosing(stream):  # type: ignore[type-var]
        yield stream


# --- append and history -----------------------------------------------------------------------------------------------


async def test_an_unknown_image_has_no_history(logs: EventLogHarness) -> None:
    log = await logs.open()
    assert not await log.history(an_image_id("nobody"))
    assert await log.head() == 0


async def test_a_history_is_what_was_appended(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    appended = await append_all(log, builder, *EVERY_EVENT.values())
    read = list(await (await logs.open()).history(builder.image_id))
    assert read == appended
    assert [event.payload for event in read] == list(EVERY_EVENT.values())
    assert [event.version for event in read] == list(range(1, len(EVENT_TOKENS) + 1))
    require_chain(read)


async def test_positions_rise_over_all_images(logs: EventLogHarness) -> None:
    log = await logs.open()
    one, other = EventBuilder(an_image_id("one")), EventBuilder(an_image_id("other"))
    events = [*await append_all(log, one, CREATED), *await append_all(log, other, CREATED)]
    events.append((await append_all(log, one, UPDATED))[-1])
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert positions[0] > 0
    assert await log.head() == positions[-1]


async def test_a_long_history_is_read_whole(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    appended = await append_all(log, builder, CREATED, *[UPDATED] * 299)
    assert list(await log.history(builder.image_id)) == appended


async def test_large_events_are_read_back(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    large = ImageCreated(ImageAttributes(properties={f"k{n}": "x" * 16_000 for n in range(40)}))
    appended = await append_all(log, builder, large, *[ImageUpdated(large.attributes, ())] * 9)
    assert list(await log.history(builder.image_id)) == appended


async def test_an_append_behind_an_older_event_is_a_conflict(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    history = await append_all(log, builder, CREATED, UPDATED)
    with pytest.raises(ConcurrencyConflictError):
        await log.append(builder.new(ImageDeleted()), after=history[0])
    assert list(await log.history(builder.image_id)) == history


async def test_an_image_begins_only_once(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    history = await append_all(log, builder, CREATED)
    with pytest.raises(ConcurrencyConflictError):
        await log.append(builder.new(CREATED), after=None)
    assert list(await log.history(builder.image_id)) == history


async def test_an_image_begins_only_once_over_all_projects(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    await append_all(log, builder, CREATED)
    with pytest.raises(ConcurrencyConflictError):
        await log.append(EventBuilder(project=ProjectId("other")).new(command="theirs"), after=None)


async def test_other_images_do_not_conflict(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    history = await append_all(log, builder, CREATED)
    await append_all(log, EventBuilder(an_image_id("other")), CREATED, UPDATED)
    assert (await log.append(builder.new(UPDATED), after=history[-1])).version == 2


async def test_of_many_appends_behind_one_event_one_wins(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    history = await append_all(log, builder, CREATED)
    participants = [await logs.open() for _ in range(3)]
    results = await asyncio.gather(
        *(participant.append(builder.new(UPDATED), after=history[-1]) for participant in participants * 4),
        return_exceptions=True,
    )
    won = [result for result in results if isinstance(result, RecordedEvent)]
    assert len(won) == 1
    assert sum(isinstance(result, ConcurrencyConflictError) for result in results) == 11
    assert list(await log.history(builder.image_id)) == [*history, *won]


# --- a command appends once -------------------------------------------------------------------------------------------


async def test_a_repeated_command_returns_its_event(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    created = await log.append(builder.new(command="create"), after=None)
    assert await log.append(builder.new(command="create"), after=None) == created
    assert list(await log.history(builder.image_id)) == [created]


async def test_a_repeated_command_behind_its_own_event_returns_it(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    created = await log.append(builder.new(command="create"), after=None)
    assert await log.append(builder.new(command="create"), after=created) == created
    assert list(await log.history(builder.image_id)) == [created]


async def test_a_repeated_command_returns_its_event_though_others_followed(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    created = await log.append(builder.new(CREATED), after=None)
    updated = await log.append(builder.new(UPDATED, command="update"), after=created)
    history = await append_all(log, builder, UPDATED, UPDATED)
    again = await (await logs.open()).append(builder.new(UPDATED, command="update"), after=created)
    assert again == updated
    assert list(await log.history(builder.image_id)) == history


async def test_the_same_command_id_on_two_images_is_two_commands(logs: EventLogHarness) -> None:
    log = await logs.open()
    one = await log.append(EventBuilder(an_image_id("one")).new(command="same"), after=None)
    other = await log.append(EventBuilder(an_image_id("other")).new(command="same"), after=None)
    assert list(await log.history(one.image_id)) == [one]
    assert list(await log.history(other.image_id)) == [other]


# --- hostile values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a\r\nNats-Msg-Id: x", "%41", '"quoted" ', "日本語", "\x00\x7f", " ", "a: b"])
async def test_hostile_actors_and_commands_travel_unchanged(logs: EventLogHarness, text: str) -> None:
    log, builder = await logs.open(), EventBuilder()
    appended = await log.append(builder.new(command=text, actor=text), after=None)
    assert list(await log.history(builder.image_id)) == [appended]
    assert (appended.event.context.actor, appended.event.command_id) == (text, text)
    assert await log.append(builder.new(command=text), after=None) == appended


@pytest.mark.parametrize("text", ["\ud800", "x" * 5000, ""])
async def test_what_cannot_be_written_is_refused(logs: EventLogHarness, text: str) -> None:
    log, builder = await logs.open(), EventBuilder()
    with pytest.raises(InvalidArgumentError):
        await log.append(builder.new(actor=text), after=None)
    assert await log.head() == 0


@pytest.mark.parametrize("project", ["*", ">", "a.b", "", "a b", "x" * 65])
async def test_a_project_cannot_widen_a_subject(logs: EventLogHarness, project: str) -> None:
    log = await logs.open()
    with pytest.raises(InvalidIdentifierError):
        await log.append(EventBuilder(project=ProjectId(project)).new(), after=None)
    with pytest.raises(InvalidIdentifierError):
        async with following(log, selection=Selection(image_id=ImageId(project))) as events:
            await anext(events)


async def test_an_event_beyond_one_message_is_refused_and_the_log_goes_on(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    with pytest.raises(EventTooLargeError):
        await log.append(builder.new(ImageCreated(ImageAttributes(name="x" * 1024 * 1024))), after=None)
    assert (await log.append(builder.new(CREATED), after=None)).version == 1


# --- follow -----------------------------------------------------------------------------------------------------------


async def test_following_gives_old_and_then_new_events_in_order(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    history = await append_all(log, builder, CREATED, UPDATED)
    async with following(await logs.open()) as events:
        assert await first(events, 2) == history
        coming = asyncio.ensure_future(first(events, 2))
        history = await append_all(log, builder, UPDATED, ImageDeleted())
        assert await coming == history[2:]


async def test_following_begins_behind_a_position(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    history = await append_all(log, builder, *IMPORT_ROAD)
    async with following(log, after=history[3].position) as events:
        assert await first(events, len(history) - 4) == history[4:]


async def test_following_many_events_loses_and_repeats_none(logs: EventLogHarness) -> None:
    log = await logs.open()
    builders = [EventBuilder(an_image_id(str(n))) for n in range(200)]
    await asyncio.gather(*(append_all(log, builder, *IMPORT_ROAD) for builder in builders))
    async with following(log) as events:
        followed = await first(events, 200 * len(IMPORT_ROAD))
    positions = [event.position for event in followed]
    assert positions == sorted(set(positions))
    for builder in builders:
        require_chain(event for event in followed if event.image_id == builder.image_id)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["a1", "a2", "b1", "b2"]),
        (Selection(project=ProjectId("red")), ["a1", "a2"]),
        (Selection(image_id=an_image_id("b")), ["b1", "b2"]),
        (Selection(types=(ImageDeleted,)), ["a2", "b2"]),
        (Selection(types=(ImageDeleted, ImageCreated)), ["a1", "a2", "b1", "b2"]),
        (Selection(ProjectId("blue"), an_image_id("b"), (ImageCreated,)), ["b1"]),
        (Selection(ProjectId("red"), an_image_id("b")), []),
    ],
)
async def test_following_gives_only_what_is_selected(
    logs: EventLogHarness, selection: Selection, expected: list[str]
) -> None:
    log, names = await logs.open(), {}
    for name, project in (("a", "red"), ("b", "blue")):
        builder = EventBuilder(an_image_id(name), ProjectId(project))
        for event in await append_all(log, builder, CREATED, ImageDeleted()):
            names[event.hash] = f"{name}{event.version}"
    # A last event that every selection lets through tells that nothing else comes before it.
    end = EventBuilder(selection.image_id or an_image_id("end"), selection.project or ProjectId("red"))
    kinds = selection.types or (ImageDeleted,)
    history = await log.history(end.image_id)
    payload = EVERY_EVENT[EVENT_TOKENS[kinds[0]]]
    last = await log.append(end.new(payload, command="end"), after=history[-1] if history else None)
    found = []
    async with following(log, selection=selection) as events:
        async for event in events:
            if event == last:
                break
            found.append(names[event.hash])
    assert found == expected


async def test_two_followers_see_the_same(logs: EventLogHarness) -> None:
    log, builder = await logs.open(), EventBuilder()
    history = await append_all(log, builder, *IMPORT_ROAD)
    async with following(log) as one, following(await logs.open()) as other:
        assert await first(one, len(history)) == await first(other, len(history)) == history


# --- work -------------------------------------------------------------------------------------------------------------

STAGED = WorkQueue("signer", (ImageStaged,), lease_s=30.0)
BRIEF = WorkQueue("brief", (ImageStaged,), lease_s=0.5)


async def stage_images(log: EventLog, count: int) -> list[RecordedEvent]:
    return await stage_images_named(log, *map(str, range(count)))


async def stage_images_named(log: EventLog, *names: str) -> list[RecordedEvent]:
    return [(await append_all(log, EventBuilder(an_image_id(name)), *IMPORT_ROAD[:3]))[-1] for name in names]


async def test_work_is_handed_out_by_type_until_acknowledged(logs: EventLogHarness) -> None:
    log = await logs.open()
    staged = await stage_images(log, 3)
    async with log.work(STAGED) as deliveries:
        for event in staged:
            delivery = await anext(deliveries)
            assert (delivery.event, delivery.attempt) == (event, 1)
            await delivery.acknowledge()
    later = (await stage_images_named(log, "later"))[0]
    async with (await logs.open()).work(STAGED) as deliveries:
        assert (await anext(deliveries)).event == later


async def test_work_waits_for_new_events(logs: EventLogHarness) -> None:
    log = await logs.open()
    async with log.work(STAGED) as deliveries:
        coming = asyncio.ensure_future(anext(deliveries))
        staged = await stage_images(await logs.open(), 1)
        assert (await coming).event == staged[0]


async def test_competing_consumers_share_the_work(logs: EventLogHarness) -> None:
    log, count = await logs.open(), 40
    staged = await stage_images(log, count)
    done: list[RecordedEvent] = []
    all_done = asyncio.Event()

    async def consume(participant: EventLog) -> None:
        async with participant.work(STAGED) as deliveries:
            async for delivery in deliveries:
                done.append(delivery.event)
                await delivery.acknowledge()
                if len(done) == count:
                    all_done.set()

    tasks = [asyncio.ensure_future(consume(await logs.open())) for _ in range(3)]
    await all_done.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(event.position for event in done) == [event.position for event in staged]


async def test_one_event_is_with_one_consumer_at_a_time(logs: EventLogHarness) -> None:
    log = await logs.open()
    one, two = await stage_images(log, 2)
    async with log.work(STAGED) as mine, (await logs.open()).work(STAGED) as theirs:
        assert [(await anext(mine)).event, (await anext(theirs)).event] == [one, two]


async def test_two_queues_each_get_every_event(logs: EventLogHarness) -> None:
    log = await logs.open()
    staged = await stage_images(log, 1)
    async with log.work(STAGED) as one, log.work(WorkQueue("other", (ImageStaged,))) as other:
        assert (await anext(one)).event == (await anext(other)).event == staged[0]


async def test_a_lapsed_lease_hands_the_event_to_another(logs: EventLogHarness) -> None:
    log = await logs.open()
    staged = await stage_images(log, 1)
    async with log.work(BRIEF) as mine, (await logs.open()).work(BRIEF) as theirs:
        await anext(mine)
        taken = await anext(theirs)
        assert (taken.event, taken.attempt) == (staged[0], 2)


async def test_an_extended_lease_keeps_the_event(logs: EventLogHarness) -> None:
    log = await logs.open()
    await stage_images(log, 1)
    async with log.work(BRIEF) as mine, (await logs.open()).work(BRIEF) as theirs:
        held = await anext(mine)
        waiting = asyncio.ensure_future(anext(theirs))
        for _ in range(10):
            await asyncio.sleep(BRIEF.lease_s / 5)
            await held.extend()
        assert not waiting.done()
        await held.acknowledge()
        later = await stage_images_named(log, "later")
        assert (await waiting).event == later[0]


async def test_retry_hands_the_event_out_again_after_a_while(logs: EventLogHarness) -> None:
    log = await logs.open()
    one, two = await stage_images(log, 2)
    async with log.work(STAGED) as deliveries:
        await (await anext(deliveries)).retry(0.2)
        second = await anext(deliveries)
        assert second.event == two
        await second.acknowledge()
        again = await anext(deliveries)
        assert (again.event, again.attempt) == (one, 2)


async def test_work_in_hand_goes_to_others_when_the_context_ends(logs: EventLogHarness) -> None:
    log = await logs.open()
    staged = await stage_images(log, 2)
    async with log.work(STAGED) as mine:
        in_hand = await first(mine, 2)
        await in_hand[0].acknowledge()
    async with (await logs.open()).work(STAGED) as theirs:
        taken = await anext(theirs)
        assert (taken.event, taken.attempt) == (staged[1], 2)


async def test_no_more_is_in_flight_than_the_queue_allows(logs: EventLogHarness) -> None:
    log = await logs.open()
    staged = await stage_images(log, 3)
    queue = WorkQueue("narrow", (ImageStaged,), max_in_flight=2)
    async with log.work(queue) as deliveries:
        in_hand = await first(deliveries, 2)
        third: asyncio.Future[Delivery] = asyncio.ensure_future(cast("asyncio.Future[Delivery]", anext(deliveries)))
        _, waiting = await asyncio.wait([third], timeout=0.2)
        assert waiting == {third}
        await in_hand[0].acknowledge()
        assert (await third).event == staged[2]


# --- progress ---------------------------------------------------------------------------------------------------------


async def test_progress_is_told_to_those_who_listen_and_selected_it(logs: EventLogHarness) -> None:
    log, clock = await logs.open(), EventBuilder().clock
    waiting_for = Failure("KEY_MANAGER_UNAVAILABLE", "nobody answers", "Wait.", True, {"key": "1"})

    def told(project: str, done: int) -> Progress:
        return Progress(an_image_id(), ProjectId(project), OPERATION, Step.STAGE, done, None, clock.now(), waiting_for)

    async with aclosing(log.follow_progress(Selection(project=ProjectId("red")))) as progress:  # type: ignore[type-var]
        coming = asyncio.ensure_future(cast("asyncio.Future[Progress]", anext(progress)))
        teller = await logs.open()
        done = 0
        while not coming.done():  # nobody says when a listener listens
            done += 1
            await teller.tell_progress(told("blue", done))
            await teller.tell_progress(told("red", done))
            await asyncio.sleep(0.01)
        heard = await coming
        assert (heard.project, heard.waiting_for) == ("red", waiting_for)
    assert await log.head() == 0
