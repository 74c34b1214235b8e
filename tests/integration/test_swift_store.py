"""The Swift store on a real Swift, whose connections are cut, whose answers are lost, and whose tokens expire."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.backends.faulty_proxy import (
    Answer,
    CorruptRequest,
    CutAnswer,
    CutRequest,
    Fault,
    Hold,
    Request,
    RewriteAnswer,
)
from tests.backends.swift import ACCOUNT, POWERLESS_KEY, POWERLESS_USER, SwiftCluster, SwiftOptions, swift_cluster
from tests.backends.swift_store import SwiftBackend, private_file, swift_settings
from tintype.adapters.swift.manifest import find_manifest
from tintype.adapters.swift.store import SwiftImageStore
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import (
    AlreadyExistsError,
    BlobDamagedError,
    BlobNotFoundError,
    StoreAccessDeniedError,
    StoreBusyError,
    StoreMissingError,
    StoreObjectTooLargeError,
    StoreQuotaExceededError,
    StoreTimeoutError,
    StoreUnavailableError,
    TintypeError,
    UploadBusyError,
)
from tintype.ports.image_store import BlobWriter, Grade, StoreSpace

pytestmark = pytest.mark.swift

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"
MIB = 1024 * 1024
DATA = random.Random(3).randbytes(5 * MIB + 5)
"""Five whole segments, and an end."""


class Place:
    """Two containers behind a proxy, and any number of stores in them."""

    def __init__(self, backend: SwiftBackend, cluster: SwiftCluster) -> None:
        self.backend = backend
        self.proxy = backend.proxy
        self.cluster = cluster
        self.stores: list[SwiftImageStore] = []

    def store(self, **changes: Any) -> SwiftImageStore:
        """One more store, which reaches Swift through the proxy."""
        usual = {"timeout_s": 10.0, "lease_s": 60, "create_containers": False}
        settings = self.backend.settings.model_copy(update=usual | changes)
        self.stores.append(SwiftImageStore("main", settings))
        return self.stores[-1]

    @property
    def container(self) -> str:
        """The one of the manifests."""
        return self.backend.settings.container


@pytest.fixture
async def place(swift: SwiftCluster, tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(SwiftBackend(swift, tmp_path), swift)
    yield place
    place.proxy.mend()
    for store in place.stores:
        await store.aclose()
    await place.backend.aclose()


async def read(store: SwiftImageStore, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in store.read(KEY, offset=offset)])


async def append(writer: BlobWriter, data: bytes) -> None:
    for begin in range(0, len(data), MIB):
        await writer.append(data[begin : begin + MIB])


async def put(store: SwiftImageStore, data: bytes = DATA, *, replace: bool = False) -> None:
    writer = await store.open_write(KEY, replace=replace)
    try:
        await append(writer, data)
        await writer.commit(size=len(data), digests={})
    finally:
        await writer.abort()


async def listed(store: SwiftImageStore) -> list[tuple[int, bool, bool]]:
    return [(blob.size, blob.is_committed, blob.is_leased) async for blob in store.list()]


def is_there(cluster: SwiftCluster, path: str) -> bool:
    try:
        cluster.request("HEAD", path)
    except urllib.error.HTTPError as answer:
        answer.close()
        return False
    return True


def is_segment(request: Request) -> bool:
    return request.method == "PUT" and "_segments/" in request.target and not request.target.endswith("/lease")


def is_manifest(request: Request) -> bool:
    return request.method == "PUT" and "/blobs/" in request.target


def is_read(request: Request) -> bool:
    return request.method == "GET" and "/blobs/" in request.target


# --- writing ----------------------------------------------------------------------------------------------------------


FAULTS: dict[str, Callable[[], Fault]] = {
    "cut": lambda: CutRequest(matches=is_segment, after=300_000),
    "answer lost": lambda: CutAnswer(matches=is_segment),
    "changed": lambda: CorruptRequest(matches=is_segment, at=70_000),
    "refused": lambda: Answer(matches=is_segment, status=503),
    "busy": lambda: Answer(matches=is_segment, status=429),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_segment_that_failed_is_sent_again(place: Place, fault: str) -> None:
    store = place.store()
    befallen = place.proxy.add(FAULTS[fault]())
    await put(store)
    assert befallen.seen == 1
    assert await read(store) == DATA
    assert await listed(store) == [(len(DATA), True, False)]


async def test_a_token_that_expires_in_mid_write_and_in_mid_read_is_got_anew(place: Place) -> None:
    store = place.store()
    writer = await store.open_write(KEY)
    await append(writer, DATA[: 2 * MIB])
    await asyncio.to_thread(place.cluster.forget_tokens)
    await append(writer, DATA[2 * MIB :])
    await asyncio.to_thread(place.cluster.forget_tokens)
    await writer.commit(size=len(DATA), digests={})
    await asyncio.to_thread(place.cluster.forget_tokens)
    assert await read(store) == DATA


async def test_an_append_that_fails_takes_nothing_and_can_be_made_again(place: Place) -> None:
    store = place.store(attempts=1)
    writer = await store.open_write(KEY)
    befallen = place.proxy.add(Answer(matches=is_segment, status=503, times=3))
    for begin in range(0, len(DATA), MIB):
        while True:
            before = writer.offset
            try:
                await writer.append(DATA[begin : begin + MIB])
                break
            except StoreUnavailableError:
                assert writer.offset == before
    assert befallen.seen == 3
    await writer.commit(size=len(DATA), digests={})
    assert await read(store) == DATA


async def test_whole_segments_of_a_writer_that_vanished_are_gone_on_behind(place: Place) -> None:
    vanished = place.store(lease_s=2)
    writer = await vanished.open_write(KEY)
    await append(writer, DATA)
    await vanished.aclose()  # without a word to Swift: the lease is there, and lapses
    store = place.store()
    with pytest.raises(UploadBusyError):
        await store.open_write(KEY, resume=True)
    again = None
    while again is None:
        with suppress(UploadBusyError):
            again = await store.open_write(KEY, resume=True)
    assert len(DATA) - again.offset <= store.capabilities.lost_tail_bytes
    assert again.offset % MIB == 0 and again.offset > 0
    await append(again, DATA[again.offset :])
    await again.commit(size=len(DATA), digests={})
    assert await read(store) == DATA


async def test_a_lease_is_renewed_as_long_as_its_writer_lives(place: Place) -> None:
    store, other = place.store(lease_s=2), place.store()
    writer = await store.open_write(KEY)
    renewals = [0]
    while renewals[0] < 4:  # of which three are made in the time of one lease
        with pytest.raises(UploadBusyError):
            await other.open_write(KEY)
        renewals[0] = sum(request.method == "POST" for request in place.proxy.requests)
    await writer.abort()
    assert place.backend.names() == []


async def test_a_lease_that_lapsed_while_swift_was_away_is_taken_again_if_nobody_else_has_it(place: Place) -> None:
    store, other = place.store(lease_s=2, timeout_s=1.0), place.store()
    lease = f"/{place.container}_segments/{KEY}/lease"
    for has_successor in (False, True):
        writer = await store.open_write(KEY, replace=True)
        await append(writer, DATA)
        place.proxy.refuse()
        while await asyncio.to_thread(is_there, place.cluster, lease):
            pass
        place.proxy.accept()
        if has_successor:
            successor = await other.open_write(KEY, replace=True)
            with pytest.raises(StoreUnavailableError):
                await writer.commit(size=len(DATA), digests={})
            await successor.abort()
        else:
            await writer.commit(size=len(DATA), digests={})
        assert await read(store) == DATA


@pytest.mark.parametrize("end", ["commit", "abort", "close"])
async def test_a_writer_whose_lease_was_taken_over_leaves_the_bytes_to_whoever_goes_on_with_them(
    place: Place, end: str
) -> None:
    lapsed, store = place.store(lease_s=2, timeout_s=1.0), place.store()
    writer = await lapsed.open_write(KEY)
    await append(writer, DATA)
    place.proxy.refuse()
    while await asyncio.to_thread(is_there, place.cluster, f"/{place.container}_segments/{KEY}/lease"):
        pass
    place.proxy.accept()
    successor = await store.open_write(KEY, resume=True)
    assert successor.offset > 0

    if end == "commit":
        with pytest.raises(StoreUnavailableError):
            await writer.commit(size=len(DATA), digests={})
    else:
        await (writer.abort if end == "abort" else writer.close)()

    await append(successor, DATA[successor.offset :])
    await successor.commit(size=len(DATA), digests={})
    assert await read(store) == DATA
    assert await listed(store) == [(len(DATA), True, False)]


async def test_of_two_writers_that_both_think_they_have_the_lease_one_commits(place: Place) -> None:
    """As two that begin in the same instant on several servers may."""
    first, second = place.store(), place.store()
    one = await first.open_write(KEY)
    await append(one, DATA)
    lease = f"/{place.container}_segments/{KEY}/lease"
    await asyncio.to_thread(place.cluster.request, "DELETE", lease)
    other = await second.open_write(KEY)
    await append(other, DATA[:MIB])
    with pytest.raises(StoreUnavailableError):
        await one.commit(size=len(DATA), digests={})
    await other.commit(size=MIB, digests={})
    assert await read(first) == DATA[:MIB]
    assert await listed(first) == [(MIB, True, False)]


async def test_a_commit_without_replacing_replaces_nothing_whoever_has_the_lease(place: Place) -> None:
    store = place.store()
    writer = await store.open_write(KEY)
    await append(writer, DATA)
    path = f"/{place.container}/blobs/{KEY}"
    await asyncio.to_thread(place.cluster.request, "PUT", path, body=b"another's")
    with pytest.raises((AlreadyExistsError, BlobDamagedError)):
        await writer.commit(size=len(DATA), digests={})
    assert await read(store) == b"another's"


async def test_a_commit_whose_answer_was_lost_is_a_commit(place: Place) -> None:
    store = place.store()
    befallen = place.proxy.add(CutAnswer(matches=is_manifest))
    await put(store)
    assert befallen.seen == 1
    assert await read(store) == DATA


async def test_a_commit_of_which_nothing_is_heard_removes_no_bytes(place: Place) -> None:
    store = place.store(timeout_s=1.0)
    writer = await store.open_write(KEY)
    await append(writer, DATA)
    place.proxy.add(CutAnswer(matches=is_manifest))
    place.proxy.add(Hold(matches=lambda request: request.method == "HEAD" and "/blobs/" in request.target, times=None))
    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=len(DATA), digests={})
    await writer.abort()  # as whoever wrote does then
    place.proxy.mend()
    assert await read(store) == DATA


async def test_a_segment_that_vanished_keeps_its_write_from_being_committed(place: Place) -> None:
    store = place.store()
    writer = await store.open_write(KEY)
    await append(writer, DATA)
    await writer.close()
    writer = await store.open_write(KEY, resume=True)
    name = next(name for name in place.backend.names() if name.endswith("/00000002"))
    await asyncio.to_thread(place.cluster.request, "DELETE", f"/{name}")
    with pytest.raises(StoreUnavailableError):
        await writer.commit(size=len(DATA), digests={})
    assert place.backend.names() == []


async def test_more_segments_than_a_manifest_can_have_are_grouped(place: Place) -> None:
    store = place.store()
    store._account._info = {"slo": {"max_manifest_segments": 2}}
    await put(store, DATA[: 3 * MIB])
    assert await read(store) == DATA[: 3 * MIB]
    assert await read(store, offset=2 * MIB - 1) == DATA[2 * MIB - 1 : 3 * MIB]
    assert await listed(store) == [(3 * MIB, True, False)]
    assert len([name for name in place.backend.names() if "/group-" in name]) == 2
    await store.delete(KEY)
    assert place.backend.names() == []


async def test_an_image_without_bytes_is_one(place: Place) -> None:
    store = place.store()
    await put(store, b"")
    assert await read(store) == b""
    assert await listed(store) == [(0, True, False)]


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_reset", [True, False])
async def test_an_early_end_is_no_end(place: Place, is_reset: bool) -> None:
    store = place.store()
    await put(store)
    place.proxy.add(CutAnswer(matches=is_read, after=MIB + 5, is_reset=is_reset))
    pieces: list[bytes] = []

    async def collect() -> None:
        async for piece in store.read(KEY):
            pieces.append(piece)

    with pytest.raises(StoreUnavailableError):
        await collect()
    received = b"".join(pieces)
    assert DATA.startswith(received) and len(received) < len(DATA)
    assert received + await read(store, offset=len(received)) == DATA


async def test_an_answer_of_other_bytes_than_were_asked_for_is_refused(place: Place) -> None:
    store = place.store()
    await put(store)

    def without_range(head: bytes) -> bytes:
        return head.replace(b"Content-Range: bytes 5-", b"Content-Range: bytes 6-")

    place.proxy.add(RewriteAnswer(matches=is_read, rewrite=without_range))
    with pytest.raises(StoreUnavailableError):
        await read(store, offset=5)


async def test_a_segment_that_is_gone_or_another_is_damage(place: Place) -> None:
    store = place.store()
    await put(store)
    name = next(name for name in place.backend.names() if name.endswith("/00000000"))
    await asyncio.to_thread(place.cluster.request, "PUT", f"/{name}", body=bytes(MIB))
    with pytest.raises(BlobDamagedError):
        await read(store)
    await asyncio.to_thread(place.cluster.request, "DELETE", f"/{name}")
    with pytest.raises(BlobDamagedError):
        await read(store)
    await put(store, replace=True)
    assert await read(store) == DATA


async def test_bytes_that_were_replaced_stay_for_a_while_and_are_shown_to_nobody(place: Place) -> None:
    store = place.store()
    await put(store)
    await put(store, DATA[:MIB], replace=True)
    assert await listed(store) == [(MIB, True, False)]
    assert len(place.backend.names()) == 1 + 6 + 1
    hasty = place.store(retired_s=0)
    assert await listed(hasty) == [(MIB, True, False)]
    assert len(place.backend.names()) == 1 + 1
    assert await read(store) == DATA[:MIB]


async def test_a_replacement_that_is_unfinished_is_shown_beside_what_is_committed(place: Place) -> None:
    store = place.store()
    await put(store)
    writer = await store.open_write(KEY, replace=True)
    await append(writer, DATA[:MIB])
    await writer.close()
    assert sorted(await listed(store)) == [(MIB, False, False), (len(DATA), True, False)]


# --- direct locations -------------------------------------------------------------------------------------------------


async def test_a_temporary_url_gives_the_bytes_to_whoever_has_it_and_no_others(place: Place, tmp_path: Path) -> None:
    key = private_file(tmp_path / "temp-url-key", "temp-url-key")
    store = place.store(temp_url_key_file=key, temp_url_expires_max_s=60)
    await put(store)
    await asyncio.to_thread(place.cluster.request, "POST", "", headers={"X-Account-Meta-Temp-URL-Key": "temp-url-key"})
    location = await store.locate(KEY, expires_in_s=10**9)
    assert location is not None and location.expires_at is not None
    assert (location.expires_at - (await store.stat(KEY)).modified_at).total_seconds() < 120

    def fetch(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())

    assert await asyncio.to_thread(fetch, location.url) == DATA
    other = location.url.replace("/source?", "/output?")
    for url in (other, location.url.replace("temp_url_sig=", "temp_url_sig=0")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(fetch, url)
        assert caught.value.code == 401
        caught.value.close()
    graded = {finding.name: finding.grade for finding in await store.examine()}
    assert graded["temporary-urls"] is Grade.GOOD
    private_file(key, "another-key")
    graded = {finding.name: finding.grade for finding in await place.store(temp_url_key_file=key).examine()}
    assert graded["temporary-urls"] is Grade.BAD
    with pytest.raises(BlobNotFoundError):
        await store.locate(KEY.replace("source", "output"), expires_in_s=60)


async def test_a_store_opens_while_swift_is_away_and_makes_its_containers_later(place: Place) -> None:
    store = place.store(container=f"{place.container}-later", create_containers=True)
    place.proxy.refuse()
    await store.prepare()
    with pytest.raises(StoreUnavailableError):
        await store.check()
    place.proxy.accept()

    await store.check()
    await put(store)

    assert await read(store) == DATA
    await store.delete(KEY)
    for container in (f"{place.container}-later", f"{place.container}-later_segments"):
        await asyncio.to_thread(place.cluster.request, "DELETE", f"/{container}")


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_missing_containers_and_wrong_credentials_are_told_apart(place: Place) -> None:
    missing = place.store(container=f"{place.container}-not")
    for call in (missing.check(), missing.open_write(KEY), read(missing), listed(missing)):
        with pytest.raises(StoreMissingError):
            await call
    graded = {finding.name: finding.grade for finding in await missing.examine()}
    assert graded["access"] is graded["containers"] is Grade.BAD
    powerless = await place.backend.open_with_wrong_credentials()
    with pytest.raises(StoreAccessDeniedError):
        await powerless.check()
    await powerless.aclose()
    unknown = place.store(username="images:unknown")
    with pytest.raises(StoreAccessDeniedError):
        await unknown.check()
    assert {finding.grade for finding in await unknown.examine() if finding.name == "access"} == {Grade.BAD}


REFUSALS: list[tuple[int, bytes, dict[str, str], type[TintypeError]]] = [
    (413, b"Upload exceeds quota.", {}, StoreQuotaExceededError),
    (413, b"Your request is too large.", {}, StoreObjectTooLargeError),
    (503, b"secret", {"Retry-After": "1"}, StoreBusyError),
    (504, b"secret", {}, StoreTimeoutError),
]


@pytest.mark.parametrize(("status", "body", "headers", "expected"), REFUSALS)
async def test_each_refusal_is_told_as_what_it_is_and_not_in_the_servers_words(
    place: Place, status: int, body: bytes, headers: dict[str, str], expected: type[TintypeError]
) -> None:
    store = place.store(attempts=1)
    await store.check()
    place.proxy.add(Answer(status=status, body=body, headers=headers, times=None))
    with pytest.raises(TintypeError) as caught:
        await store.check()
    assert type(caught.value) is expected
    assert "secret" not in caught.value.message


async def test_a_quota_is_told_of_and_met(place: Place) -> None:
    store = place.store()
    assert await store.space() is None
    segments = f"/{place.container}_segments"
    cluster = place.cluster
    await asyncio.to_thread(cluster.request, "POST", segments, headers={"X-Container-Meta-Quota-Bytes": "1048576"})
    writer = await store.open_write(KEY)
    with pytest.raises(StoreQuotaExceededError):
        await append(writer, DATA)
    await writer.abort()
    assert place.backend.names() == []
    quota = {"X-Account-Meta-Quota-Bytes": str(10**12)}
    await asyncio.to_thread(cluster.request, "POST", "", headers=quota, as_reseller=True)
    space = await store.space()
    await asyncio.to_thread(
        cluster.request, "POST", "", headers={"X-Remove-Account-Meta-Quota-Bytes": "x"}, as_reseller=True
    )
    assert space == StoreSpace(space.free if space else 0, 10**12)


async def test_a_container_that_anybody_can_read_is_found_out(place: Place) -> None:
    store = place.store()
    assert {finding.name: finding.grade for finding in await store.examine()}["public"] is Grade.GOOD
    open_to_all = {"X-Container-Read": ".r:*,.rlistings"}
    await asyncio.to_thread(place.cluster.request, "POST", f"/{place.container}_segments", headers=open_to_all)
    assert {finding.name: finding.grade for finding in await store.examine()}["public"] is Grade.BAD


async def test_segments_that_swift_does_not_take_are_found_out_and_refused(tmp_path: Path) -> None:
    with swift_cluster(SwiftOptions(max_file_size=MIB)) as small:
        store = SwiftImageStore("main", swift_settings(small, tmp_path, segment_size_mib=2))
        await store.prepare()
        graded = {finding.name: finding.grade for finding in await store.examine()}
        assert graded["large-objects"] is Grade.BAD
        with pytest.raises(StoreObjectTooLargeError):
            await put(store)
        assert await listed(store) == []
        await store.aclose()


HOSTILE = [b"{}", b"[1]", b'[{"name": ""}]', b'[{"name": "x"}', b"[" * 100_000, b'[{"name": 7, "bytes": 1}]']


@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_list_that_is_none_is_refused(place: Place, answer: bytes) -> None:
    store = place.store()
    place.proxy.add(
        Answer(matches=lambda request: "format=json" in request.target, status=200, body=answer, times=None)
    )
    with pytest.raises(StoreUnavailableError):
        await listed(store)


async def test_what_is_no_manifest_of_ours_is_damage(place: Place) -> None:
    store = place.store()
    path = f"/{place.container}/blobs/{KEY}"
    for write in ("../../x", "0" * 31, ""):
        headers = {"X-Object-Meta-Tintype-Write": write, "X-Object-Meta-Tintype-Segments": "1"}
        await asyncio.to_thread(place.cluster.request, "PUT", path, headers=headers, body=b"x")
        with pytest.raises(BlobDamagedError):
            await store.stat(KEY)
    await store.delete(KEY)
    assert place.backend.names() == []


async def test_names_of_others_in_the_containers_are_left_alone(place: Place) -> None:
    store = place.store()
    for path in (f"/{place.container}/blobs/x", f"/{place.container}_segments/of-somebody-else"):
        await asyncio.to_thread(place.cluster.request, "PUT", path, body=b"x")
    await put(store)
    assert await listed(store) == [(len(DATA), True, False)]
    await store.delete(KEY)
    assert len(place.backend.names()) == 2


async def test_a_redirect_is_not_followed_with_the_token(place: Place) -> None:
    store = place.store()
    await store.check()
    elsewhere = {"Location": f"{place.cluster.url}/v1/{ACCOUNT}"}
    place.proxy.add(Answer(status=302, headers=elsewhere))
    with pytest.raises(StoreUnavailableError):
        await store.space()


async def test_a_url_of_the_account_that_is_none_is_refused(place: Place) -> None:
    for told in ("file:///etc/passwd", "http://user:secret@127.0.0.1/", ""):
        store = place.store()
        headers = {"X-Auth-Token": "token", "X-Storage-Url": told}
        place.proxy.add(Answer(status=200, headers=headers))
        with pytest.raises(StoreUnavailableError) as caught:
            await store.check()
        assert "secret" not in caught.value.message


async def test_a_user_with_rights_on_the_containers_alone_can_keep_images(place: Place, tmp_path: Path) -> None:
    acls = {"X-Container-Read": POWERLESS_USER, "X-Container-Write": POWERLESS_USER}
    for container in (place.container, f"{place.container}_segments"):
        await asyncio.to_thread(place.cluster.request, "POST", f"/{container}", headers=acls)
    key = private_file(tmp_path / "nobody-key", POWERLESS_KEY)
    store = place.store(username=POWERLESS_USER, password_file=key)
    await put(store)
    assert await read(store) == DATA
    assert await listed(store) == [(len(DATA), True, False)]
    assert await store.space() is None
    assert [finding.name for finding in await store.examine() if finding.grade is Grade.BAD] == []
    await store.delete(KEY)
    assert place.backend.names() == []


# --- the whole server -------------------------------------------------------------------------------------------------


async def test_a_server_that_was_killed_in_mid_write_is_gone_on_with(place: Place) -> None:
    store = await place.backend.open()
    writer = await store.open_write(KEY)
    await append(writer, DATA[: 3 * MIB])
    await place.backend.kill()
    with pytest.raises(StoreUnavailableError):
        await store.check()
    await place.backend.start()
    await append(writer, DATA[3 * MIB :])
    await writer.commit(size=len(DATA), digests={})
    assert b"".join([piece async for piece in store.read(KEY)]) == DATA
    await store.aclose()


async def test_what_a_manifest_says_of_itself_is_what_was_committed(place: Place) -> None:
    store = place.store()
    await put(store)
    found = await find_manifest(store._account, place.container, BlobKey.parse(KEY))
    assert found is not None and (found.segments, found.size, found.retired) == (6, len(DATA), ())
    raw = await asyncio.to_thread(
        place.cluster.request, "GET", f"/{place.container}/blobs/{KEY}?multipart-manifest=get&format=raw"
    )
    assert [entry["size_bytes"] for entry in json.loads(raw)] == [MIB] * 5 + [5]
