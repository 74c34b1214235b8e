"""Images in several stores, through the whole importer: each gets identical bytes, or is told why it did not."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest

from services.importer import fan_out
from services.importer.fan_out import FanOutWriter, all_left
from services.importer.upload_record import UploadRecord
from services.importer.upload_target import Written
from services.importer.upload_tokens import UploadToken
from tests.integration.importer.conftest import CALLER, Importer, MakeImporter, is_active
from tests.integration.importer.test_web_download import file, serving
from tests.unit.importer.failing_store import FailingStore
from tintype.codec.framing import WriteFrame
from tintype.domain.commands import CancelOperation, RecordCopyDamaged, RequestCopy, RequestImport
from tintype.domain.errors import (
    AlreadyExistsError,
    DigestMismatchError,
    InvalidPlacementError,
    StoreDeviceError,
    StoreFullError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnavailableError,
    TintypeError,
)
from tintype.domain.events import FailedStore, Failure, ImageStaged, ImportMethod, ImportSource, StagePurpose, Step
from tintype.domain.image import Image, OperationState
from tintype.domain.lifecycle import Status, next_step
from tintype.domain.values import DEFAULT_PLACEMENT, BlobRef, Digest, ImageId, OperationId, Placement
from tintype.ports.image_store import StoreMode
from tintype.runtime import worker as worker_module
from tintype.testing.events import an_id

DATA = random.Random(9).randbytes(2_500_000)
EVERYWHERE = Placement(("main", "far", "spare"))
COPY = OperationId(an_id("copy"))


@pytest.fixture
async def importer(make_importer: MakeImporter, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Importer]:
    monkeypatch.setattr(fan_out, "PATIENCE_S", 2.0)
    monkeypatch.setattr(worker_module, "_LONGEST_RETRY_DELAY_S", 0.01)
    yield await make_importer(others=("far", "spare"))
    await all_left(5)


async def begin(
    importer: Importer,
    image_id: ImageId,
    placement: Placement = EVERYWHERE,
    purpose: StagePurpose = StagePurpose.UPLOAD,
    digest: Digest | None = None,
) -> str:
    state = await importer.uploads.start(
        CALLER, image_id, purpose, size=None, digest=digest, request_id="r", placement=placement
    )
    return str(state.token)


async def send(importer: Importer, token: str, data: bytes = DATA, *, offset: int = 0, finish: bool = True) -> None:
    async def frames() -> AsyncIterator[WriteFrame]:
        for begin in range(offset, len(data), 300_000):
            yield WriteFrame(token, begin, False, data[begin : begin + 300_000])
        yield WriteFrame(token, len(data), finish, b"")

    await importer.uploads.write(CALLER, frames())


async def upload(importer: Importer, placement: Placement = EVERYWHERE) -> Image:
    image_id = await importer.create()
    async with importer.working():
        await send(importer, await begin(importer, image_id, placement))
        return await importer.until(image_id, is_active)


def contents(importer: Importer) -> dict[str, list[bytes]]:
    """What is committed, and nothing but that may be there."""
    found = {name: list(store.content().values()) for name, store in importer.others.items()}
    assert not any(store.memory.uncommitted for store in importer.others.values())
    assert not [path for path in (importer.root / "uncommitted").rglob("*") if path.is_file()]
    found["main"] = [path.read_bytes() for path in (importer.root / "blobs").rglob("*") if path.is_file()]
    return {name: blobs for name, blobs in found.items() if blobs}


def locations(image: Image) -> list[str]:
    assert image.data is not None
    assert len({ref.key for ref in image.data.locations}) == 1
    return [ref.store for ref in image.data.locations]


def failures(image: Image) -> dict[str, str]:
    assert image.data is not None
    return {each.store: each.failure.reason for each in image.data.failed_stores}


# --- uploads ----------------------------------------------------------------------------------------------------------


async def test_an_upload_is_in_all_its_stores_with_identical_bytes(importer: Importer) -> None:
    image = await upload(importer)
    assert (locations(image), failures(image)) == (["main", "far", "spare"], {})
    assert contents(importer) == {name: [DATA] for name in EVERYWHERE.stores}
    assert image.operation is not None
    assert image.operation.placement == EVERYWHERE
    assert await importer.read(image.id) == DATA


async def test_an_upload_that_says_nothing_is_in_the_default_store_and_no_fan_out(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FanOutWriter, "__init__", lambda *_, **__: pytest.fail("one store needs none"))
    image = await upload(importer, DEFAULT_PLACEMENT)
    assert contents(importer) == {"main": [DATA]}
    assert image.operation is not None
    assert image.operation.placement == Placement(("main",))


async def test_all_stores_are_those_of_the_deployment(importer: Importer) -> None:
    assert locations(await upload(importer, Placement(in_all=True))) == ["main", "far", "spare"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("open_write", StoreReadOnlyError("no")),
        ("append", StoreFullError("no")),
        ("commit", StoreDeviceError("no")),
        ("committed", StoreUnavailableError("nobody knows")),
    ],
)
async def test_a_store_that_fails_is_told_and_the_image_becomes_active(
    importer: Importer, call: str, error: StoreFullError | StoreUnavailableError
) -> None:
    importer.others["far"].fails[call], importer.others["far"].takes = error, 1_000_000
    image = await upload(importer)
    assert (locations(image), failures(image)) == (["main", "spare"], {"far": error.reason})
    await all_left(5)
    await importer.sweeper.sweep()
    assert contents(importer) == {"main": [DATA], "spare": [DATA]}


async def test_where_the_first_store_fails_the_image_is_in_the_others(importer: Importer) -> None:
    importer.others["far"].is_away = True
    image = await upload(importer, Placement(("far", "spare", "main")))
    assert (locations(image), failures(image)) == (["spare", "main"], {"far": "STORE_UNAVAILABLE"})
    assert await importer.read(image.id) == DATA


async def test_a_store_that_hangs_is_dropped(importer: Importer) -> None:
    importer.others["far"].hangs, importer.others["far"].takes = True, 1_000_000
    image = await upload(importer)
    assert (locations(image), failures(image)) == (["main", "spare"], {"far": "STORE_TIMEOUT"})
    importer.others["far"].hanging.set()
    await all_left(5)
    assert importer.others["far"].is_empty()


async def test_where_all_must_succeed_the_reason_is_that_stores_and_nothing_is_left(importer: Importer) -> None:
    importer.others["far"].fails["commit"] = StoreFullError("far is full")
    image_id = await importer.create()
    token = await begin(importer, image_id, Placement(EVERYWHERE.stores, all_must_succeed=True))
    with pytest.raises(StoreFullError, match="far"):
        await send(importer, token)
    assert (await importer.load(image_id)).status is Status.QUEUED
    await all_left(5)
    assert contents(importer) == {}


async def test_what_a_store_that_is_needed_keeps_from_being_finished_can_be_gone_on_with(importer: Importer) -> None:
    importer.others["far"].fails["commit"] = StoreUnavailableError("far is away")
    image_id = await importer.create()
    token = await begin(importer, image_id, Placement(EVERYWHERE.stores, all_must_succeed=True))
    with pytest.raises(StoreUnavailableError, match="far"):
        await send(importer, token)
    await all_left(5)
    importer.others["far"].fails.clear()
    assert (await importer.uploads.status(CALLER, token)).committed_size == len(DATA)
    await send(importer, token, offset=len(DATA))
    assert contents(importer) == {name: [DATA] for name in EVERYWHERE.stores}


async def test_what_a_store_that_is_needed_has_failed_for_ever_is_swept(importer: Importer) -> None:
    importer.others["far"].fails["commit"] = StoreUnavailableError("far is away")
    token = await begin(importer, await importer.create(), Placement(EVERYWHERE.stores, all_must_succeed=True))
    with pytest.raises(StoreUnavailableError):
        await send(importer, token)
    await all_left(5)
    await importer.sweeper_in(hours=2).sweep()
    assert contents(importer) == {}


async def test_where_all_stores_fail_the_upload_fails(importer: Importer) -> None:
    for store in importer.others.values():
        store.fails["append"] = StoreFullError(store.name)
    image_id = await importer.create()
    token = await begin(importer, image_id, Placement(("far", "spare")))
    with pytest.raises(StoreFullError, match="far"):
        await send(importer, token)
    await all_left(5)
    assert (await importer.load(image_id)).status is Status.QUEUED
    assert contents(importer) == {}


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("unknown", StoreNotFoundError),
        ("", InvalidPlacementError),
        ("../main", InvalidPlacementError),
        ("x" * 10_000, InvalidPlacementError),
    ],
)
@pytest.mark.parametrize("purpose", [StagePurpose.UPLOAD, StagePurpose.STAGE])
async def test_a_store_that_does_not_exist_is_refused_at_the_start(
    importer: Importer, name: str, refusal: type[TintypeError], purpose: StagePurpose
) -> None:
    with pytest.raises(refusal):
        await begin(importer, await importer.create(), Placement(("main", name)), purpose)
    assert contents(importer) == {}


async def test_a_forged_name_of_an_upload_names_no_other_store(importer: Importer) -> None:
    token = UploadToken.parse(await begin(importer, await importer.create()))
    forged = UploadToken(
        token.image_id, token.nonce, token.purpose, None, None, placement=Placement(("main", "unknown"))
    )
    await importer.uploads.aclose()
    with pytest.raises(StoreNotFoundError):
        await send(importer, str(forged))
    with pytest.raises(StoreNotFoundError):
        await importer.uploads.cancel(CALLER, str(forged))


async def test_refused_bytes_are_left_in_no_store_and_the_reason_is_why_they_were_refused(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id, digest=Digest("sha256", "00" * 32))
    importer.others["far"].fails["abort"] = StoreUnavailableError("far does not let go")
    with pytest.raises(DigestMismatchError):
        await send(importer, token)
    importer.others["far"].fails.clear()
    assert [name for name, store in importer.others.items() if not store.is_empty()] == ["far"]
    await importer.uploads.cancel(CALLER, token)
    assert contents(importer) == {}


@pytest.mark.parametrize("is_in_hand", [True, False])
async def test_a_cancelled_upload_is_left_in_no_store(importer: Importer, is_in_hand: bool) -> None:
    token = await begin(importer, await importer.create())
    await send(importer, token, DATA[:1_000_000], finish=False)
    if not is_in_hand:
        await importer.uploads.aclose()
    await importer.uploads.cancel(CALLER, token)
    assert contents(importer) == {}
    await importer.uploads.cancel(CALLER, token)


async def test_an_upload_in_hand_is_let_go_of_and_gone_on_with_in_all_stores(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)
    await send(importer, token, DATA[:1_000_000], finish=False)
    importer.others["far"].fails["open_write"] = StoreReadOnlyError("for a while")
    await importer.uploads.aclose()
    importer.uploads = importer.new_uploads()
    assert (await importer.uploads.status(CALLER, token)).committed_size == 1_000_000
    await send(importer, token, offset=1_000_000)
    operation = (await importer.load(image_id)).operation
    assert operation is not None
    assert [each.store for each in operation.failed_stores] == ["far"]
    assert [ref.store for ref in operation.copies] == ["spare"]


async def test_a_kill_between_the_commits_of_two_stores_ends_with_identical_copies(importer: Importer) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id)
    await importer.uploads.aclose()
    key = UploadToken.parse(token).key
    writer = await importer.others["far"].open_write(key)
    await writer.append(DATA)
    await writer.commit(size=len(DATA), digests={})
    other = b"sent by another try" + DATA  # which was killed before: longer, and never committed
    await (kept := await importer.store.open_write(key)).append(other)
    await kept.close()
    importer.uploads = importer.new_uploads()
    async with importer.working():
        await send(importer, token, offset=len(DATA))
        image = await importer.until(image_id, is_active)
    assert contents(importer) == {name: [DATA] for name in EVERYWHERE.stores}
    assert image.data is not None
    assert image.data.blob.digests["sha256"] == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("placement", [EVERYWHERE, DEFAULT_PLACEMENT])
async def test_bytes_behind_a_committed_upload_are_refused_and_it_can_be_finished_at_once(
    importer: Importer, placement: Placement
) -> None:
    image_id = await importer.create()
    token = await begin(importer, image_id, placement)
    await importer.uploads.aclose()
    writer = await importer.store.open_write(UploadToken.parse(token).key)
    await writer.append(DATA)
    await writer.commit(size=len(DATA), digests={})
    importer.uploads = importer.new_uploads()
    with pytest.raises(AlreadyExistsError):
        await send(importer, token, DATA + b"more", offset=len(DATA))
    assert (await importer.uploads.status(CALLER, token)).committed_size == len(DATA)
    await send(importer, token, offset=len(DATA))
    assert contents(importer)["main"] == [DATA]


async def test_who_comes_back_before_the_upload_is_recorded_takes_no_copy_away(importer: Importer) -> None:
    """Its answer was lost on the way: it looks at committed copies that an event is about to name."""
    image_id = await importer.create()
    token = await begin(importer, image_id)
    key = UploadToken.parse(token).key
    execute, seen = importer.journal.execute, list[int]()

    async def recording(*args: object, **kwargs: object) -> object:
        if not seen:
            seen.append(await _at_once(importer, token))
        return await execute(*args, **kwargs)  # type: ignore[arg-type]

    importer.journal.execute = recording  # type: ignore[method-assign,assignment]
    async with importer.working():
        await send(importer, token)
        image = await importer.until(image_id, is_active)
    assert seen == [len(DATA)]
    assert [importer.others[name].content() for name in ("far", "spare")] == [{key: DATA}] * 2
    assert locations(image) == ["main", "far", "spare"]


async def _at_once(importer: Importer, token: str) -> int:
    """Another stream of the same upload that goes away again at once."""
    again = importer.new_uploads()

    async def nothing() -> AsyncIterator[WriteFrame]:
        yield WriteFrame(token, len(DATA), False, b"")

    state = await again.write(CALLER, nothing())
    await again.aclose()
    return state.committed_size


# --- imports ----------------------------------------------------------------------------------------------------------


async def stage(importer: Importer, placement: Placement) -> ImageId:
    image_id = await importer.create()
    await send(importer, await begin(importer, image_id, placement, StagePurpose.STAGE))
    return image_id


async def direct(
    importer: Importer, image_id: ImageId, placement: Placement = DEFAULT_PLACEMENT, *, converts: bool = False
) -> Image:
    async with importer.working(converts=converts):
        source = ImportSource(ImportMethod.GLANCE_DIRECT)
        await importer.execute(image_id, RequestImport(OperationId(an_id("direct")), source, placement))
        return await importer.until_ended(image_id)


async def test_staged_bytes_are_in_the_first_store_that_takes_them_and_their_import_copies_them(
    importer: Importer,
) -> None:
    importer.others["far"].mode = StoreMode.READ_ONLY
    image_id = await stage(importer, Placement(("far", "spare", "main")))
    assert contents(importer) == {"spare": [DATA]}
    importer.others["far"].mode = StoreMode.READ_WRITE
    image = await direct(importer, image_id)
    assert sorted(locations(image)) == ["far", "main", "spare"]
    assert contents(importer) == {name: [DATA] for name in EVERYWHERE.stores}


async def test_the_store_that_an_import_does_not_want_has_no_copy_in_the_end(importer: Importer) -> None:
    image = await direct(importer, await stage(importer, DEFAULT_PLACEMENT), Placement(("far",)))
    assert (locations(image), contents(importer)) == (["far"], {"far": [DATA]})
    assert await importer.read(image.id) == DATA


async def test_a_store_that_an_import_does_not_want_holds_it_not_up_when_it_is_away(importer: Importer) -> None:
    image_id = await stage(importer, Placement(("far",)))
    importer.others["far"].fails["delete"] = StoreUnavailableError("far is away")
    image = await direct(importer, image_id, Placement(("spare",)))
    assert locations(image) == ["spare"]
    importer.others["far"].fails.clear()
    await importer.sweeper.sweep()
    assert contents(importer) == {"spare": [DATA]}


async def test_bytes_stay_where_they_were_staged_where_no_store_that_is_wanted_takes_them(importer: Importer) -> None:
    importer.others["far"].fails["open_write"] = StoreFullError("full")
    image = await direct(importer, await stage(importer, DEFAULT_PLACEMENT), Placement(("far",)))
    assert (locations(image), failures(image)) == (["main"], {"far": "STORE_FULL"})


@pytest.mark.parametrize("named", [(), ("far",)])
async def test_an_import_of_staged_bytes_may_want_them_in_all_stores(
    importer: Importer, named: tuple[str, ...]
) -> None:
    image = await direct(importer, await stage(importer, DEFAULT_PLACEMENT), Placement(named, in_all=True))
    assert sorted(locations(image)) == ["far", "main", "spare"]
    assert contents(importer) == {name: [DATA] for name in EVERYWHERE.stores}


async def test_of_what_is_converted_the_copies_have_the_converted_bytes(importer: Importer) -> None:
    image = await direct(importer, await stage(importer, EVERYWHERE), converts=True)
    assert locations(image) == ["main", "far", "spare"]
    assert contents(importer) == {name: [b"converted"] for name in EVERYWHERE.stores}


async def test_an_import_into_a_store_that_does_not_exist_fails_with_that_reason(importer: Importer) -> None:
    image = await direct(importer, await stage(importer, DEFAULT_PLACEMENT), Placement(("unknown",)))
    assert image.failure is not None
    assert (image.status, image.failure.reason) == (Status.QUEUED, "STORE_NOT_FOUND")


async def test_a_download_is_in_all_stores(importer: Importer) -> None:
    async with serving(file) as url, importer.working():
        image_id = await importer.request_import(url + "/disk", placement=Placement(("far",), in_all=True))
        image = await importer.until(image_id, is_active)
    assert locations(image) == ["far", "main", "spare"]
    (content,) = {blob for blobs in contents(importer).values() for blob in blobs}
    assert set(contents(importer)) == set(EVERYWHERE.stores)
    assert hashlib.sha256(content).hexdigest() == image.data.blob.digests["sha256"]  # type: ignore[union-attr]


async def test_a_download_into_a_store_that_does_not_exist_fails_with_that_reason(importer: Importer) -> None:
    async with serving(file) as url, importer.working():
        image_id = await importer.request_import(url + "/disk", placement=Placement(("unknown",)))
        image = await importer.until_ended(image_id)
    assert image.failure is not None
    assert image.failure.reason == "STORE_NOT_FOUND"
    assert contents(importer) == {}


async def test_a_download_that_must_be_everywhere_fails_with_the_reason_of_the_store_and_leaves_nothing(
    importer: Importer,
) -> None:
    importer.others["spare"].fails["append"] = StoreUnavailableError("spare is away")
    async with serving(file) as url, importer.working():
        placement = Placement(EVERYWHERE.stores, all_must_succeed=True)
        image_id = await importer.request_import(url + "/disk", placement=placement)
        image = await importer.until_ended(image_id)
        assert image.failure is not None
        assert (image.status, image.failure.reason) == (Status.QUEUED, "STORE_UNAVAILABLE")
        assert image.operation is not None
        assert image.operation.failed_step is Step.PLACE
        await importer.until_files(set())
    await all_left(5)
    await importer.sweeper.sweep()
    assert contents(importer) == {}


async def test_a_store_that_is_needed_and_away_for_a_moment_fails_no_import(importer: Importer) -> None:
    spare = importer.others["spare"]
    spare.fails["append"] = StoreUnavailableError("spare is away")
    async with serving(file) as url, importer.working():
        placement = Placement(EVERYWHERE.stores, all_must_succeed=True)
        image_id = await importer.request_import(url + "/disk", placement=placement)
        await _until(lambda: spare.aborted > 0)
        spare.fails.clear()
        assert sorted(locations(await importer.until(image_id, is_active))) == ["far", "main", "spare"]


async def _until(is_so: object) -> None:
    assert callable(is_so)
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0)


# --- copies of what is active -----------------------------------------------------------------------------------------


async def copy(importer: Importer, image_id: ImageId, placement: Placement) -> Image:
    async with importer.working():
        await importer.execute(image_id, RequestCopy(COPY, placement))
        return await importer.until(image_id, lambda image: next_step(image) is None and _is_copy(image))


def _is_copy(image: Image) -> bool:
    return image.operation is not None and image.operation.id == COPY


async def test_an_active_image_is_copied_and_stays_active(importer: Importer) -> None:
    image = await upload(importer, DEFAULT_PLACEMENT)
    image = await copy(importer, image.id, Placement(("far", "spare")))
    assert image.operation is not None
    assert (image.status, image.operation.state) == (Status.ACTIVE, OperationState.SUCCEEDED)
    assert contents(importer) == {name: [DATA] for name in EVERYWHERE.stores}


async def test_where_no_store_takes_a_copy_the_operation_fails_and_the_image_stays_active(importer: Importer) -> None:
    image = await upload(importer, DEFAULT_PLACEMENT)
    for store in importer.others.values():
        store.is_away = True
    image = await copy(importer, image.id, Placement(("far", "spare")))
    assert image.operation is not None
    assert image.operation.failure is not None
    assert (image.status, image.operation.state) == (Status.ACTIVE, OperationState.FAILED)
    assert image.operation.failure.reason == "STORE_UNAVAILABLE"
    assert locations(image) == ["main"]


async def test_a_copy_that_must_be_everywhere_and_is_not_leaves_nothing(importer: Importer) -> None:
    image = await upload(importer, DEFAULT_PLACEMENT)
    importer.others["spare"].fails["commit"] = StoreFullError("full")
    image = await copy(importer, image.id, Placement(("far", "spare"), all_must_succeed=True))
    assert image.operation is not None
    assert image.operation.state is OperationState.FAILED
    await all_left(5)
    await importer.sweeper.sweep()
    assert (locations(image), contents(importer)) == (["main"], {"main": [DATA]})


async def test_a_copy_into_a_store_that_does_not_exist_fails_with_that_reason(importer: Importer) -> None:
    image = await upload(importer, DEFAULT_PLACEMENT)
    image = await copy(importer, image.id, Placement(("unknown",)))
    assert image.operation is not None
    assert image.operation.failure is not None
    assert (image.status, image.operation.failure.reason) == (Status.ACTIVE, "STORE_NOT_FOUND")


async def test_a_copy_that_is_cancelled_leaves_the_image_active_and_no_bytes(importer: Importer) -> None:
    image = await upload(importer, DEFAULT_PLACEMENT)
    far: FailingStore = importer.others["far"]
    far.hangs = True
    fan_out.PATIENCE_S = 60  # the fixture's patch puts it back
    async with importer.working():
        await importer.execute(image.id, RequestCopy(COPY, Placement(("far", "spare"))))
        await _until(lambda: bool(importer.others["spare"].memory.uncommitted))
        await importer.execute(image.id, CancelOperation(COPY))
        far.hanging.set()
        # It may have come to its end before it was seen to be overtaken: then there are copies that nobody wants.
        await _until(lambda: not any(store.memory.uncommitted for store in importer.others.values()))
    await importer.sweeper.sweep()
    image = await importer.load(image.id)
    assert image.operation is not None
    assert (image.status, image.operation.state) == (Status.ACTIVE, OperationState.CANCELLED)
    assert (locations(image), contents(importer)) == (["main"], {"main": [DATA]})


async def test_a_damaged_copy_that_is_asked_for_again_is_replaced(importer: Importer) -> None:
    image = await upload(importer)
    assert image.data is not None
    damaged = BlobRef("far", image.data.blob.ref.key)
    importer.others["far"].memory.committed[damaged.key].data[7] ^= 1
    await importer.execute(image.id, RecordCopyDamaged(damaged, Digest("sha256", "11" * 32), None))
    image = await copy(importer, image.id, Placement(("far",)))
    assert image.data is not None
    assert (image.data.damaged, contents(importer)) == ((), {name: [DATA] for name in EVERYWHERE.stores})


async def test_of_two_replicas_that_finish_one_upload_the_first_ones_word_counts(importer: Importer) -> None:
    token = await begin(importer, await importer.create(), EVERYWHERE)
    await send(importer, token)
    parsed = UploadToken.parse(token)
    history = await importer.log.history(parsed.image_id)
    (staged,) = [event for event in history if isinstance(event.payload, ImageStaged)]
    told = staged.payload
    assert isinstance(told, ImageStaged) and len(told.copies) == 2
    record = UploadRecord(importer.journal, importer.stores, importer.settings.importer.plugins)
    failed = FailedStore("far", Failure("STORE_TIMEOUT", "it was away for a moment"))
    second = Written(told.blob, told.placement, told.copies[1:], (failed,))
    assert await record.staged(CALLER, parsed, second, None) == staged.position
    assert contents(importer) == {name: [DATA] for name in EVERYWHERE.stores}
