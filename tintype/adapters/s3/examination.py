"""What an operator should know of a bucket before it is trusted with images."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

from tintype.adapters.s3.bucket import Bucket, date_of
from tintype.adapters.s3.client import new_client
from tintype.adapters.s3.errors import FAILURES, code_of
from tintype.adapters.s3.layout import Layout
from tintype.adapters.s3.settings import S3StoreSettings
from tintype.domain.errors import TintypeError
from tintype.ports.image_store import Finding, Grade

_SKEW_DOUBTFUL = timedelta(seconds=30)
_SKEW_BAD = timedelta(minutes=5)
_PROBE_KEPT = timedelta(days=1)


class _Checked(Protocol):
    async def check(self) -> None: ...


async def examine(store: _Checked, bucket: Bucket, layout: Layout, settings: S3StoreSettings) -> Sequence[Finding]:
    """Everything, each under its stable name; what cannot be found out is left out or doubtful."""
    found = [_transport(settings)]
    try:
        found.append(await _clock(bucket))
        await store.check()
    except TintypeError as exc:
        return [Finding("access", Grade.BAD, exc.message, exc.hint), *found]
    found.insert(0, Finding("access", Grade.GOOD, "the bucket can be written and read"))
    looks: Sequence[tuple[str, Callable[[], Awaitable[Finding]]]] = (
        ("conditional-writes", lambda: _conditional_writes(bucket, layout)),
        ("multipart", lambda: _multipart(bucket, layout)),
        ("public", lambda: _public(bucket, layout, settings)),
        ("versioning", lambda: _versioning(bucket)),
        ("lifecycle", lambda: _lifecycle(bucket, layout)),
    )
    for name, look in looks:
        try:
            found.append(await look())
        except TintypeError as exc:
            found.append(Finding(name, Grade.DOUBTFUL, f"it could not be found out: {exc.message}", exc.hint))
    await _remove_old_probes(bucket, layout)
    return found


def _transport(settings: S3StoreSettings) -> Finding:
    if not settings.endpoint_url or urlsplit(settings.endpoint_url).scheme == "https":
        return Finding("transport", Grade.GOOD, "requests are encrypted")
    return Finding(
        "transport",
        Grade.DOUBTFUL,
        "requests are sent over plain http: who is on the way can read images",
        "Use an https endpoint_url; ca_file names a private authority's certificate.",
    )


async def _clock(bucket: Bucket) -> Finding:
    def skew() -> timedelta:
        try:
            answer: Mapping[str, Any] = bucket.call("head_bucket")
        except FAILURES as exc:
            answer = getattr(exc, "response", {})  # a refusal has a date as well
        return abs(date_of(answer) - datetime.now(UTC))

    seconds = await bucket.run(skew)
    grade = Grade.BAD if seconds > _SKEW_BAD else Grade.DOUBTFUL if seconds > _SKEW_DOUBTFUL else Grade.GOOD
    advice = "" if grade is Grade.GOOD else "Synchronise this machine's clock (NTP): at 15 minutes all is refused."
    return Finding("clock", grade, f"the server's clock differs by {seconds.total_seconds():.0f} s", advice)


async def _conditional_writes(bucket: Bucket, layout: Layout) -> Finding:
    name = _probe(layout)
    try:
        first, second = [await bucket.put(name, b"probe", is_new=True) for _ in range(2)]
    finally:
        await bucket.delete(name)
    if first and not second:
        return Finding("conditional-writes", Grade.GOOD, "writes with If-None-Match are honoured")
    return Finding(
        "conditional-writes",
        Grade.BAD,
        "the server ignores If-None-Match: two writers of one key are not told apart",
        "Use a server that honours conditional writes, or let one importer alone write to this store.",
    )


async def _multipart(bucket: Bucket, layout: Layout) -> Finding:
    name = _probe(layout)
    upload = await bucket.create_upload(name)
    try:
        await bucket.upload_part(name, upload, 1, b"probe")
        is_told = any(pending.upload_id == upload for pending in await bucket.uploads(name))
    finally:
        await bucket.abort(name, upload)
    if is_told and not await bucket.uploads(name):
        return Finding("multipart", Grade.GOOD, "multipart uploads are listed, and removed when they are aborted")
    return Finding(
        "multipart",
        Grade.BAD,
        "multipart uploads are not listed, or not removed when they are aborted: interrupted writes leave bytes",
        "Let the service's user list, and abort, multipart uploads; or add a lifecycle rule that aborts them.",
    )


async def _public(bucket: Bucket, layout: Layout, settings: S3StoreSettings) -> Finding:
    name = _probe(layout)

    def is_public() -> bool:
        anonymous = new_client("anonymous", settings, is_anonymous=True)
        try:
            for operation, parameters in (("list_objects_v2", {"MaxKeys": 1}), ("get_object", {"Key": name})):
                try:
                    getattr(anonymous, operation)(Bucket=settings.bucket, **parameters)
                except FAILURES:
                    continue
                return True
        finally:
            anonymous.close()
        return False

    await bucket.put(name, b"probe")
    try:
        if not await bucket.run(is_public):
            return Finding("public", Grade.GOOD, "who has no credentials cannot list or read")
    finally:
        await bucket.delete(name)
    advice = "Remove the bucket's policy or ACL that lets everybody in: private images are in it."
    return Finding("public", Grade.BAD, "anybody can list or read the bucket without credentials", advice)


async def _versioning(bucket: Bucket) -> Finding:
    def status() -> str:
        try:
            return str(bucket.call("get_bucket_versioning").get("Status", ""))
        except FAILURES as exc:
            return code_of(exc) or "unknown"

    if await bucket.run(status) != "Enabled":
        return Finding("versioning", Grade.GOOD, "what is deleted is gone: versions are not kept")
    return Finding(
        "versioning",
        Grade.DOUBTFUL,
        "the bucket keeps every version: deleted images take room, and can be read by who may read versions",
        "Suspend versioning, or add a lifecycle rule that expires noncurrent versions.",
    )


async def _lifecycle(bucket: Bucket, layout: Layout) -> Finding:
    def rules() -> list[Mapping[str, Any]]:
        try:
            found = bucket.call("get_bucket_lifecycle_configuration").get("Rules", [])
        except FAILURES:
            return []  # none, or no such thing
        return [rule for rule in found if rule.get("Status") == "Enabled"]

    active = await bucket.run(rules)
    if any("Expiration" in rule and not rule["Expiration"].get("ExpiredObjectDeleteMarker") for rule in active):
        advice = f"Exclude what begins with {layout.area('blobs')} and {layout.area('data')} from it."
        return Finding("lifecycle", Grade.BAD, "a lifecycle rule removes objects, images with them", advice)
    if any("AbortIncompleteMultipartUpload" in rule for rule in active):
        return Finding("lifecycle", Grade.GOOD, "uploads that were given up are aborted by the bucket's own rule")
    return Finding(
        "lifecycle",
        Grade.DOUBTFUL,
        "no lifecycle rule aborts incomplete multipart uploads: until they are swept they take room",
        "Add a rule AbortIncompleteMultipartUpload of seven days or more, where the server has such rules.",
    )


async def _remove_old_probes(bucket: Bucket, layout: Layout) -> None:
    """Those of checks that were killed."""
    try:
        for found in await bucket.objects(layout.area("probes")):
            if datetime.now(UTC) - found.modified_at > _PROBE_KEPT:
                await bucket.delete(found.name)
    except TintypeError:
        return  # the next examination does it


def _probe(layout: Layout) -> str:
    return layout.area("probes", uuid.uuid4().hex)
