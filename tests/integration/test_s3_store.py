"""The S3 store on real servers, whose connections are cut, whose answers are lost, and whose bytes are changed."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import botocore.auth
import pytest

from tests.backends.ceph import Ceph
from tests.backends.faulty_proxy import (
    Answer,
    CorruptRequest,
    CutAnswer,
    CutRequest,
    FaultyProxy,
    Request,
    RewriteAnswer,
    faulty_proxy,
)
from tests.backends.s3 import S3Server, new_bucket, remains, s3_of_ceph, s3_of_swift
from tests.backends.s3_backend import S3Backend, ceph_s3_backend, swift_s3_backend
from tintype.adapters.s3.bounded_answers import ANSWER_MAX
from tintype.adapters.s3.store import S3ImageStore
from tintype.domain.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    StoreAccessDeniedError,
    StoreBusyError,
    StoreMissingError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    UploadBusyError,
)
from tintype.ports.image_store import BlobWriter, Grade

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"
MIB = 1024 * 1024
DATA = random.Random(3).randbytes(17 * MIB + 5)
"""Three whole parts, and an end."""

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>secret</Message></Error>"


class Place:
    """A bucket behind a proxy."""

    def __init__(self, server: S3Server, proxy: FaultyProxy, bucket: str, client: Any) -> None:
        self.server = server
        self.proxy = proxy
        self.bucket = bucket
        self.client = client
        self.stores: list[S3ImageStore] = []

    def store(self, **changes: Any) -> S3ImageStore:
        """One more store in it, which reaches it through the proxy."""
        settings = self.server.settings(self.bucket, endpoint_url=self.proxy.url, **changes)
        self.stores.append(S3ImageStore("main", settings))
        return self.stores[-1]

    def remains(self) -> list[str]:
        """All that is in it."""
        return remains(self.client, self.bucket)


SERVERS = [pytest.param("swift", marks=pytest.mark.swift), pytest.param("ceph", marks=pytest.mark.ceph)]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> S3Server:
    cluster = request.getfixturevalue(request.param)
    return s3_of_swift(cluster) if request.param == "swift" else s3_of_ceph(cluster)


@pytest.fixture
def bucket(server: S3Server) -> Iterator[str]:
    with new_bucket(server) as bucket:
        yield bucket


@pytest.fixture
async def place(server: S3Server, bucket: str) -> AsyncIterator[Place]:
    client = server.client()
    with faulty_proxy(*server.address) as proxy:
        place = Place(server, proxy, bucket, client)
        yield place
        proxy.mend()
        for store in place.stores:
            await store.aclose()
    client.close()


async def read(store: S3ImageStore, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in store.read(KEY, offset=offset)])


async def append_at_last(writer: BlobWriter, data: bytes) -> list[str]:
    """Append, and again if it was refused, as the store's decorators do; what was said."""
    refused: list[str] = []
    while len(refused) < 10:
        try:
            await writer.append(data)
        except StoreUnavailableError as exc:
            refused.append(str(exc))
        else:
            break
    return refused


async def put(store: S3ImageStore, data: bytes = DATA) -> None:
    writer = await store.open_write(KEY)
    for begin in range(0, len(data), MIB):
        await writer.append(data[begin : begin + MIB])
    await writer.commit(size=len(data), digests={"sha256": "00"})


async def listed(store: S3ImageStore) -> list[tuple[int, bool, bool]]:
    return [(blob.size, blob.is_committed, blob.is_leased) async for blob in store.list()]


def is_part(request: Request) -> bool:
    return request.method == "PUT" and "partNumber=" in request.target


def is_beginning(request: Request) -> bool:
    return request.method == "POST" and request.target.endswith("uploads")


def is_marker(request: Request) -> bool:
    return request.method == "PUT" and "/blobs/" in request.target


def is_completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId=" in request.target


def is_data(request: Request) -> bool:
    return request.method == "GET" and "/data/" in request.target


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("appended", [0, 5 * MIB, 11 * MIB + 1])
async def test_a_write_goes_on_behind_what_another_process_kept(place: Place, appended: int) -> None:
    writer = await place.store().open_write(KEY)
    for begin in range(0, appended, MIB):
        await writer.append(DATA[begin : min(begin + MIB, appended)])
    await writer.close()
    writer = await place.store().open_write(KEY, resume=True)
    assert writer.offset == appended
    await writer.append(DATA[appended : appended + 3])
    await writer.close()  # a second time, with a short end
    store = place.store()
    writer = await store.open_write(KEY, resume=True)
    assert writer.offset == appended + 3
    await writer.append(DATA[appended + 3 :])
    await writer.commit(size=len(DATA), digests={})
    assert await read(store) == DATA
    await store.delete(KEY)
    assert place.remains() == []


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_without_end_is_not_read_to_its_end(place: Place, status: int) -> None:
    store = place.store()
    place.proxy.add(Answer(status=status, body=b" " * (ANSWER_MAX + 1), times=None))
    for call in (listed(store), store.stat(KEY), store.open_write(KEY)):
        with pytest.raises((StoreUnavailableError, BlobDamagedError)):
            await call
    with pytest.raises(StoreUnavailableError, match="AnswerTooLargeError"):
        await listed(store)


@pytest.mark.ceph
async def test_a_quota_of_the_gateway_is_told_as_one(ceph: Ceph) -> None:
    server = s3_of_ceph(ceph)
    with new_bucket(server) as bucket:
        ceph.set_bucket_quota(bucket, 6 * MIB)
        store = S3ImageStore("main", server.settings(bucket))
        writer = await store.open_write(KEY)
        for begin in range(0, 5 * MIB, MIB):
            await writer.append(DATA[begin : begin + MIB])
        await writer.commit(size=5 * MIB, digests={})
        writer = await store.open_write(KEY, replace=True)
        await writer.append(DATA[:MIB])
        await writer.append(DATA[MIB : 2 * MIB])
        with pytest.raises(StoreQuotaExceededError):
            await writer.commit(size=2 * MIB, digests={})
        assert await read(store) == DATA[: 5 * MIB]
        await store.aclose()


async def test_of_a_killed_process_whole_parts_are_kept_and_its_lease_lapses(place: Place) -> None:
    program = (
        "import asyncio, sys\n"
        "from tintype.adapters.s3.settings import S3StoreSettings\n"
        "from tintype.adapters.s3.store import S3ImageStore\n"
        "async def main():\n"
        "    settings = S3StoreSettings.model_validate_json(sys.argv[1])\n"
        "    writer = await S3ImageStore('main', settings).open_write(sys.argv[2])\n"
        "    for _ in range(18): await writer.append(bytes(1024 * 1024))\n"
        "    print('written', flush=True)\n"
        "    await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    settings = place.server.settings(place.bucket).model_dump(mode="json") | {
        "secret_access_key": place.server.secret_key
    }
    store = place.store()
    with subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(settings), KEY],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"written\n"
        with pytest.raises(UploadBusyError):
            await store.open_write(KEY, resume=True)
        process.send_signal(signal.SIGKILL)
    assert [is_committed for _, is_committed, _ in await listed(store)] == [False]
    with pytest.raises(BlobNotFoundError):
        await read(store)
    while (await listed(store))[0][2]:
        await asyncio.sleep(0.1)
    writer = await store.open_write(KEY, resume=True)
    assert writer.offset % (5 * MIB) == 0  # the parts that had arrived
    found = b"".join([piece async for piece in store.read_uncommitted(KEY)])
    assert found == bytes(writer.offset)
    await writer.abort()
    assert place.remains() == []


@pytest.mark.parametrize("end", ["commit", "abort", "close"])
async def test_a_writer_whose_lease_was_taken_over_leaves_the_bytes_to_whoever_goes_on_with_them(
    place: Place, end: str
) -> None:
    lapsed, store = place.store(lease_s=1.0, timeout_s=1.0), place.store()
    writer = await lapsed.open_write(KEY)
    for begin in range(0, 11 * MIB, MIB):
        await writer.append(DATA[begin : begin + MIB])
    place.proxy.refuse()
    direct = S3ImageStore("main", place.server.settings(place.bucket))
    place.stores.append(direct)
    while (await direct.stat(KEY)).is_leased:
        await asyncio.sleep(0.1)
    successor = await direct.open_write(KEY, resume=True)
    place.proxy.accept()

    if end == "commit":
        with pytest.raises(StoreUnavailableError):
            await writer.commit(size=11 * MIB, digests={})
    else:
        await (writer.abort if end == "abort" else writer.close)()

    for begin in range(successor.offset, len(DATA), MIB):
        await successor.append(DATA[begin : begin + MIB])
    await successor.commit(size=len(DATA), digests={})
    assert await read(store) == DATA


@pytest.mark.parametrize(
    "fault",
    [
        lambda: CutRequest(matches=is_part, after=MIB),
        lambda: CorruptRequest(matches=is_part, at=MIB),
        lambda: CutAnswer(matches=is_part),
        lambda: CutAnswer(matches=is_beginning),
        lambda: Answer(matches=is_part, status=503, body=SLOW_DOWN),
    ],
)
async def test_a_part_that_failed_is_sent_again_with_the_same_bytes(place: Place, fault: Callable[[], Any]) -> None:
    befallen = place.proxy.add(fault())
    store = place.store()
    writer = await store.open_write(KEY)
    refused: list[str] = []
    for begin in range(0, len(DATA), MIB):
        refused += await append_at_last(writer, DATA[begin : begin + MIB])
    await writer.commit(size=len(DATA), digests={})
    assert befallen.seen == 1
    assert "secret" not in "".join(refused)
    assert await listed(store) == [(len(DATA), True, False)]
    assert await read(store) == DATA


async def test_bytes_that_never_arrive_whole_are_refused_and_leave_nothing(place: Place) -> None:
    place.proxy.add(CorruptRequest(matches=is_part, at=MIB, times=None))
    store = place.store(attempts=2)
    writer = await store.open_write(KEY)
    await writer.append(DATA[: 6 * MIB])
    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=6 * MIB, digests={})
    assert place.remains() == []


async def test_a_server_that_is_too_busy_is_named_so(place: Place) -> None:
    place.proxy.add(Answer(status=503, body=SLOW_DOWN, times=None))
    with pytest.raises(StoreBusyError) as caught:
        await place.store().open_write(KEY)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("matches", [is_part, is_completion, is_marker])
async def test_a_commit_whose_answer_was_lost_is_a_commit(place: Place, matches: Callable[[Request], bool]) -> None:
    lost = place.proxy.add(CutAnswer(matches=matches))
    store = place.store()
    writer = await store.open_write(KEY)
    await writer.append(DATA[: 6 * MIB])
    await writer.commit(size=6 * MIB, digests={})
    assert lost.seen == 1
    assert await read(store) == DATA[: 6 * MIB]
    assert await listed(store) == [(6 * MIB, True, False)]


async def test_a_commit_of_which_nothing_more_is_heard_removes_no_bytes(place: Place) -> None:
    store = place.store(attempts=1, timeout_s=1)
    writer = await store.open_write(KEY)
    await writer.append(b"whole")
    place.proxy.add(CutAnswer(matches=is_marker))
    place.proxy.add(Answer(matches=lambda request: "/blobs/" in request.target, status=500, times=None))
    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=5, digests={})
    place.proxy.mend()
    assert await read(store) == b"whole"  # it had been committed


async def test_a_commit_that_is_cancelled_shows_all_or_nothing(place: Place) -> None:
    store = place.store()
    for turns in range(0, 60, 6):
        writer = await store.open_write(KEY)
        await writer.append(b"whole")
        commit = asyncio.ensure_future(writer.commit(size=5, digests={}))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        commit.cancel()
        await asyncio.wait([commit])
        await writer.abort()  # a commit that was cancelled before it began has ended nothing
        if place.remains():
            assert await listed(store) == [(5, True, False)]
            assert await read(store) == b"whole"
            await store.delete(KEY)
        else:
            assert commit.cancelled()


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_reset", [True, False])
async def test_an_early_end_is_no_end(place: Place, is_reset: bool) -> None:
    store = place.store()
    await put(store)
    place.proxy.add(CutAnswer(matches=is_data, after=3 * MIB + 1, is_reset=is_reset))
    pieces: list[bytes] = []

    async def read_all() -> None:
        async for piece in store.read(KEY):
            pieces.append(piece)

    with pytest.raises(StoreUnavailableError):
        await read_all()
    seen = b"".join(pieces)
    assert DATA.startswith(seen)
    assert seen + await read(store, len(seen)) == DATA


async def test_a_server_that_hangs_is_not_waited_for(place: Place) -> None:
    store = place.store(timeout_s=0.5)
    await put(store, b"bytes")
    place.proxy.freeze()
    for call in (lambda: read(store), store.check, lambda: store.open_write(KEY)):
        with pytest.raises(StoreTimeoutError):
            await call()
    place.proxy.thaw()
    assert await read(store) == b"bytes"


async def test_bytes_that_are_gone_or_others_are_damage(place: Place) -> None:
    store = place.store()
    await put(store, b"bytes")
    (name,) = [name for name in place.remains() if "data/" in name]
    place.client.put_object(Bucket=place.bucket, Key=name, Body=b"more bytes")
    with pytest.raises(BlobDamagedError):
        await read(store)
    place.client.delete_object(Bucket=place.bucket, Key=name)
    with pytest.raises(BlobDamagedError):
        await read(store)
    place.client.put_object(Bucket=place.bucket, Key=f"blobs/{KEY}", Body=b"{}" + bytes(70_000))
    with pytest.raises(BlobDamagedError):
        await read(store)
    assert [is_committed for _, is_committed, _ in await listed(store)] == [True]
    await store.delete(KEY)
    assert place.remains() == []


async def test_bytes_that_were_replaced_stay_for_a_while_and_are_shown_to_nobody(place: Place) -> None:
    store = place.store()
    await put(store, b"damaged")
    location = await store.locate(KEY, expires_in_s=60)
    writer = await store.open_write(KEY, replace=True)
    await writer.append(b"sound")
    await writer.commit(size=5, digests={})
    assert location is not None
    assert fetched(location.url) == b"damaged"
    assert await listed(store) == [(5, True, False)]
    with pytest.raises(BlobNotFoundError):
        await store.open_write(KEY, resume=True, replace=True)
    await store.delete(KEY)
    assert place.remains() == []


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


async def test_a_presigned_url_gives_the_bytes_and_no_others_and_expires_in_time(place: Place) -> None:
    store = place.store(presign_expires_max_s=100)
    await put(store)
    location = await store.locate(KEY, expires_in_s=10**9)
    assert location is not None and location.expires_at is not None
    left = location.expires_at - datetime.datetime.now(datetime.UTC)
    assert left <= datetime.timedelta(seconds=100)
    assert place.server.secret_key not in location.url
    assert fetched(location.url) == DATA
    for changed in (location.url.replace("/data/", "/blobs/"), location.url.replace("Expires=100", "Expires=10000")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetched(changed)
        refused.value.close()
        assert refused.value.code in (400, 403)


# --- places and clocks ------------------------------------------------------------------------------------------------


async def test_a_missing_bucket_and_wrong_credentials_are_told_apart(place: Place) -> None:
    missing = place.store(bucket="not-there")
    for store, error in (
        (missing, StoreMissingError),
        (place.store(secret_access_key="wrong"), StoreAccessDeniedError),
        (place.store(access_key_id="nobody"), StoreAccessDeniedError),
    ):
        for call in (store.check, lambda store=store: store.open_write(KEY), lambda store=store: listed(store)):
            with pytest.raises(error) as caught:
                await call()
            assert place.server.secret_key not in str(caught.value)
        assert (await store.examine())[0].grade is Grade.BAD


async def test_a_wrong_clock_is_named_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    store = place.store()
    with monkeypatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: ahead.replace(tzinfo=None))
        with pytest.raises(StoreAccessDeniedError) as caught:
            await store.open_write(KEY)
    assert "clock" in str(caught.value)
    place.proxy.add(
        RewriteAnswer(
            matches=lambda request: request.method == "HEAD",
            rewrite=lambda head: b"\r\n".join(
                b"Date: Thu, 01 Jan 2015 00:00:00 GMT" if line.lower().startswith(b"date:") else line
                for line in head.split(b"\r\n")
            ),
        )
    )
    assert {finding.name: finding.grade for finding in await store.examine()}["clock"] is Grade.BAD


async def test_a_server_that_ignores_conditions_is_found_out(place: Place) -> None:
    place.proxy.add(Answer(matches=lambda request: "if-none-match" in request.headers, status=200, times=None))
    findings = {finding.name: finding for finding in await place.store().examine()}
    assert findings["conditional-writes"].grade is Grade.BAD
    assert findings["conditional-writes"].advice


async def test_an_open_bucket_is_found_out(place: Place) -> None:
    store = place.store()
    assert {finding.name: finding.grade for finding in await store.examine()}["public"] is Grade.GOOD
    place.proxy.add(
        Answer(
            matches=lambda request: "authorization" not in request.headers,
            status=200,
            body=b"<?xml version='1.0'?><ListBucketResult/>",
        )
    )
    assert {finding.name: finding.grade for finding in await store.examine()}["public"] is Grade.BAD
    assert place.remains() == []


async def test_names_of_others_in_the_bucket_are_left_alone(place: Place) -> None:
    place.client.put_object(Bucket=place.bucket, Key="data/of-somebody-else", Body=b"x")
    store = place.store(prefix="images/tintype")
    await put(store, b"bytes")
    assert await listed(store) == [(5, True, False)]
    assert await listed(place.store()) == []
    await store.delete(KEY)
    assert place.remains() == ["data/of-somebody-else"]


# --- the whole server -------------------------------------------------------------------------------------------------


@pytest.fixture(params=SERVERS)
def backend(request: pytest.FixtureRequest) -> S3Backend:
    cluster = request.getfixturevalue(request.param)
    return swift_s3_backend(cluster) if request.param == "swift" else ceph_s3_backend(cluster)


async def test_a_server_that_was_killed_in_mid_write_is_gone_on_with(backend: S3Backend) -> None:
    store = await backend.open()
    writer = await store.open_write(KEY)
    await writer.append(DATA[: 7 * MIB])
    await backend.kill()
    with pytest.raises(StoreUnavailableError):
        await store.check()
    await backend.start()
    await append_at_last(writer, DATA[7 * MIB :])
    await writer.commit(size=len(DATA), digests={})
    assert b"".join([piece async for piece in store.read(KEY)]) == DATA
    await backend.corrupt(KEY)
    changed = b"".join([piece async for piece in store.read(KEY)])
    assert len(changed) == len(DATA) and changed != DATA
    await store.delete(KEY)
    assert await backend.remains() == []
    await store.aclose()
    await backend.aclose()
