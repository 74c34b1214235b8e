"""Imports that have to come from their publisher: the signed list is fetched before the first byte of the image."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from services.importer import origins
from tests.backends.openpgp import GnuPG, gnupg
from tests.integration.importer.conftest import Importer, is_active
from tests.integration.importer.test_web_download import DATA, serving
from tintype.domain.checksums import MAX_LIST_BYTES
from tintype.domain.commands import CancelOperation, RequestImport
from tintype.domain.events import ImageStaged, ImportMethod, ImportSource, Origin, SignedChecksums
from tintype.domain.image import Image, OperationState
from tintype.domain.lifecycle import Status
from tintype.domain.values import Digest, DiskFormat, OperationId
from tintype.testing.events import an_id

LISTED = Digest("sha512", hashlib.sha512(DATA).hexdigest())
SUMS = f"{LISTED.hex}  disk.raw\n{'a' * 128}  other.raw\n".encode()


@pytest.fixture(scope="module")
def gpg() -> Iterator[GnuPG]:
    with gnupg() as made:
        made.make_key("publisher")
        made.make_key("stranger")
        yield made


@dataclass
class Publisher:
    """A web server with the publisher's files; ``asked`` are the names that were asked for, in order."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["path"]
        self.asked.append(name)
        if name == "moved":
            raise web.HTTPFound("/SUMS")
        if name == "inside":
            raise web.HTTPFound("http://127.0.0.2/SUMS")
        if name not in self.files:
            raise web.HTTPNotFound
        return web.Response(body=self.files[name])


@pytest.fixture
async def publisher(gpg: GnuPG) -> AsyncIterator[Publisher]:
    made = Publisher(files={"disk.raw": DATA, "SUMS": SUMS, "SUMS.sign": gpg.sign("publisher", SUMS)})
    async with serving(made.answer) as url:
        made.url = url
        yield made


@asynccontextmanager
async def importing(
    importer: Importer,
    publisher: Publisher,
    key: bytes,
    *,
    path: str = "disk.raw",
    sums: str = "SUMS",
    signature: str = "SUMS.sign",
    digest: Digest | None = None,
) -> AsyncIterator[Image]:
    """The image at the end of its import."""
    image_id = await importer.create(disk_format=DiskFormat.RAW)
    checksums = SignedChecksums(f"{publisher.url}/{sums}", f"{publisher.url}/{signature}" if signature else "", key)
    source = ImportSource(ImportMethod.WEB_DOWNLOAD, f"{publisher.url}/{path}", None, digest, checksums)
    await importer.execute(image_id, RequestImport(OperationId(an_id("import")), source))
    async with importer.working():
        yield await importer.until_ended(image_id)


async def refused(importer: Importer, publisher: Publisher, key: bytes, **options: object) -> str:
    """The import fails, the image is queued, the store is empty. The reason."""
    async with importing(importer, publisher, key, **options) as image:  # type: ignore[arg-type]
        await importer.until_files(set())
    assert image.status is Status.QUEUED
    assert image.operation is not None
    assert image.operation.state is OperationState.FAILED
    assert image.failure is not None
    return image.failure.reason


async def staged(importer: Importer, image: Image) -> ImageStaged:
    (found,) = [
        each.payload for each in await importer.journal.history(image.id) if isinstance(each.payload, ImageStaged)
    ]
    return found


async def test_the_bytes_that_a_publisher_lists_become_an_image_that_says_so(
    importer: Importer, publisher: Publisher, gpg: GnuPG
) -> None:
    async with importing(importer, publisher, gpg.public("publisher")) as image:
        assert is_active(image)
    event = await staged(importer, image)
    url = publisher.url
    assert event.origin == Origin(f"{url}/disk.raw", LISTED, f"{url}/SUMS", gpg.fingerprint("publisher"))
    assert event.blob.digests["sha512"] == LISTED.hex
    assert publisher.asked == ["SUMS", "SUMS.sign", "disk.raw"]


async def test_a_list_may_hold_its_own_signature(importer: Importer, publisher: Publisher, gpg: GnuPG) -> None:
    listing = f"# disk.raw: {len(DATA)} bytes\nSHA512 (disk.raw) = {LISTED.hex}\n"
    publisher.files["CHECKSUM"] = gpg.clearsign("publisher", listing.encode())
    async with importing(importer, publisher, gpg.public("publisher"), sums="CHECKSUM", signature="") as image:
        assert is_active(image)
    assert publisher.asked == ["CHECKSUM", "disk.raw"]


async def test_the_name_in_the_users_url_counts_and_not_where_it_leads(
    importer: Importer, publisher: Publisher, gpg: GnuPG
) -> None:
    publisher.files["two words"] = DATA
    publisher.files["SUMS"] = f"{LISTED.hex} *./two words\n".encode()
    publisher.files["SUMS.sign"] = gpg.sign("publisher", publisher.files["SUMS"])
    key = gpg.public("publisher")
    async with importing(importer, publisher, key, path="two%20words", sums="moved") as image:
        assert is_active(image)


async def test_the_listed_digest_is_that_of_the_bytes_as_they_come(
    importer: Importer, publisher: Publisher, gpg: GnuPG
) -> None:
    sent = gzip.compress(DATA[:100_000])
    digest = hashlib.sha256(sent).hexdigest()
    publisher.files |= {"disk.raw.gz": sent, "SUMS": f"{digest}  disk.raw.gz\n".encode()}
    publisher.files["SUMS.sign"] = gpg.sign("publisher", publisher.files["SUMS"])
    async with importing(importer, publisher, gpg.public("publisher"), path="disk.raw.gz") as image:
        assert is_active(image)
    event = await staged(importer, image)
    assert event.received is not None
    assert event.origin is not None
    assert event.origin.digest == Digest("sha256", digest)
    assert event.received.digests["sha256"] == digest != event.blob.digests["sha256"]


async def test_an_expected_digest_alone_is_an_origin_too(importer: Importer, publisher: Publisher) -> None:
    uri = f"{publisher.url}/disk.raw"
    async with importer.working():
        image = await importer.until(await importer.request_import(uri, digest=LISTED), is_active)
    assert (await staged(importer, image)).origin == Origin(uri, LISTED)


@pytest.mark.parametrize("algorithm", ["md5", "sha1"])
async def test_a_broken_hash_is_compared_and_proves_no_origin(
    importer: Importer, publisher: Publisher, algorithm: str
) -> None:
    """Whoever makes two files of one MD5 would have the service attest to either that it is the expected one."""
    digest = Digest(algorithm, hashlib.new(algorithm, DATA, usedforsecurity=False).hexdigest())
    image_id = await importer.create(disk_format=DiskFormat.RAW)
    source = ImportSource(ImportMethod.WEB_DOWNLOAD, f"{publisher.url}/disk.raw", None, digest)
    await importer.execute(image_id, RequestImport(OperationId(an_id("import")), source))
    async with importer.working():
        image = await importer.until_ended(image_id)
    assert is_active(image)
    event = await staged(importer, image)
    assert (event.origin, event.blob.digests[algorithm]) == (None, digest.hex)


async def test_nothing_is_said_of_an_origin_that_nobody_asked_for(importer: Importer, publisher: Publisher) -> None:
    async with importer.working():
        image = await importer.until(await importer.request_import(f"{publisher.url}/disk.raw"), is_active)
    assert (await staged(importer, image)).origin is None


async def test_other_bytes_than_the_listed_ones_leave_nothing(
    importer: Importer, publisher: Publisher, gpg: GnuPG
) -> None:
    publisher.files["disk.raw"] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    assert await refused(importer, publisher, gpg.public("publisher")) == "DIGEST_MISMATCH"


async def test_list_and_user_must_agree_before_a_byte_is_fetched(
    importer: Importer, publisher: Publisher, gpg: GnuPG
) -> None:
    said = Digest("sha512", "b" * 128)
    assert await refused(importer, publisher, gpg.public("publisher"), digest=said) == "DIGEST_MISMATCH"
    assert "disk.raw" not in publisher.asked


async def test_the_users_digest_counts_beside_the_listed_one(
    importer: Importer, publisher: Publisher, gpg: GnuPG
) -> None:
    said = Digest("sha256", "b" * 64)
    assert await refused(importer, publisher, gpg.public("publisher"), digest=said) == "DIGEST_MISMATCH"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"SUMS": SUMS + b"\n"}, "CHECKSUMS_SIGNATURE"),
        ({"SUMS.sign": b"-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"}, "CHECKSUMS_SIGNATURE"),
        ({"SUMS.sign": b""}, "CHECKSUMS_SIGNATURE"),
        ({"SUMS.sign": b"\x89" * 70_000}, "CHECKSUMS_SIGNATURE"),
        ({"SUMS": b"x" * (MAX_LIST_BYTES + 1)}, "CHECKSUMS_MALFORMED"),
    ],
)
async def test_a_list_that_is_not_the_publishers_is_refused_before_a_byte_is_fetched(
    importer: Importer, publisher: Publisher, gpg: GnuPG, files: dict[str, bytes], reason: str
) -> None:
    publisher.files |= files
    assert await refused(importer, publisher, gpg.public("publisher")) == reason
    assert "disk.raw" not in publisher.asked


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        (b"<html>", "CHECKSUMS_MALFORMED"),
        (b"", "CHECKSUMS_INCOMPLETE"),
        (f"{LISTED.hex}  pool/disk.raw\n".encode(), "CHECKSUMS_INCOMPLETE"),
        (SUMS + f"{'b' * 128}  disk.raw\n".encode(), "CHECKSUMS_INCOMPLETE"),
        (f"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}  disk.raw\n".encode(), "CHECKSUMS_MALFORMED"),
        (b"".join(b"%064x  f%d\n" % (n, n) for n in range(13_000)), "CHECKSUMS_INCOMPLETE"),
        (bytes(range(256)), "CHECKSUMS_MALFORMED"),
    ],
)
async def test_a_signed_list_that_does_not_tell_the_digest_is_refused(
    importer: Importer, publisher: Publisher, gpg: GnuPG, listing: bytes, reason: str
) -> None:
    publisher.files |= {"SUMS": listing, "SUMS.sign": gpg.sign("publisher", listing)}
    assert await refused(importer, publisher, gpg.public("publisher")) == reason
    assert "disk.raw" not in publisher.asked


async def test_another_publishers_key_is_refused(importer: Importer, publisher: Publisher, gpg: GnuPG) -> None:
    assert await refused(importer, publisher, gpg.public("stranger")) == "CHECKSUMS_SIGNATURE"


async def test_a_key_that_is_none_is_refused(importer: Importer, publisher: Publisher) -> None:
    assert await refused(importer, publisher, b"no key") == "PUBLISHER_KEY"


@pytest.mark.parametrize(("sums", "reason"), [("gone", "SOURCE_NOT_FOUND"), ("inside", "SOURCE_FORBIDDEN")])
async def test_a_list_is_fetched_under_the_same_rules_as_an_image(
    importer: Importer, publisher: Publisher, gpg: GnuPG, sums: str, reason: str
) -> None:
    assert await refused(importer, publisher, gpg.public("publisher"), sums=sums) == reason


async def test_a_list_that_does_not_end_is_given_up(
    importer: Importer, publisher: Publisher, gpg: GnuPG, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origins, "FETCH_TIMEOUT_S", 0.2)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"#")
            await asyncio.sleep(0.02)

    async with serving(endless) as url:
        stuck = Publisher(url=url)
        assert await refused(importer, stuck, gpg.public("publisher")) == "SOURCE_INTERRUPTED"


async def test_an_import_is_cancelled_while_its_list_is_fetched(importer: Importer, gpg: GnuPG) -> None:
    begun = asyncio.Event()
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        begun.set()
        try:
            while True:
                await response.write(b"#")
                await asyncio.sleep(0.02)
        finally:
            ended.set()

    async with serving(endless) as url, importer.working():
        image_id = await importer.create(disk_format=DiskFormat.RAW)
        operation = OperationId(an_id("import"))
        checksums = SignedChecksums(f"{url}/SUMS", f"{url}/SUMS.sign", gpg.public("publisher"))
        source = ImportSource(ImportMethod.WEB_DOWNLOAD, f"{url}/disk.raw", checksums=checksums)
        await importer.execute(image_id, RequestImport(operation, source))
        await begun.wait()
        await importer.execute(image_id, CancelOperation(operation))
        async with asyncio.timeout(20):
            await ended.wait()  # nobody reads on
    assert importer.files() == set()
