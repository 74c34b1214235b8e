"""What an operator should know of an account and its containers before they are trusted with images."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from tintype.adapters.swift.account import Account
from tintype.adapters.swift.settings import SwiftStoreSettings
from tintype.domain.errors import StoreMissingError, TintypeError
from tintype.ports.image_store import Finding, Grade

_SKEW_DOUBTFUL_S = 30.0
_SKEW_BAD_S = 300.0


class _Checked(Protocol):
    async def check(self) -> None: ...


async def examine(
    store: _Checked, account: Account, settings: SwiftStoreSettings, temp_url_key: bytes | None
) -> Sequence[Finding]:
    """Everything, each under its stable name; what cannot be found out is doubtful."""
    found: list[Finding] = []
    looks: Sequence[tuple[str, Callable[[], Awaitable[Finding]]]] = (
        ("transport", lambda: _transport(account, settings)),
        ("containers", lambda: _containers(account, settings)),
        ("clock", lambda: _clock(account)),
        ("large-objects", lambda: _large_objects(account, settings)),
        ("public", lambda: _public(account, settings)),
        ("temporary-urls", lambda: _temporary_urls(account, temp_url_key)),
        ("quota", lambda: _quota(account, settings)),
    )
    try:
        await store.check()
        found.append(Finding("access", Grade.GOOD, "both containers can be written and read"))
    except TintypeError as exc:
        found.append(Finding("access", Grade.BAD, exc.message, exc.hint))
        looks = looks[:2]
    for name, look in looks:
        try:
            found.append(await look())
        except TintypeError as exc:
            found.append(Finding(name, Grade.DOUBTFUL, f"it could not be found out: {exc.message}", exc.hint))
    return found


async def _transport(account: Account, settings: SwiftStoreSettings) -> Finding:
    urls = (settings.auth_url, await account.url(""))
    if all(urlsplit(url).scheme == "https" for url in urls):
        return Finding("transport", Grade.GOOD, "requests are encrypted")
    return Finding(
        "transport",
        Grade.DOUBTFUL,
        "passwords or images are sent over plain http: who is on the way can read them",
        "Use https URLs for auth_url and in the catalog, or set storage_url; ca_file names a private authority.",
    )


async def _containers(account: Account, settings: SwiftStoreSettings) -> Finding:
    names = (settings.container, f"{settings.container}_segments")
    for name in names:
        try:
            await account.call("HEAD", f"/{name}")
        except StoreMissingError:
            advice = f"Make them: `swift post {names[0]}` and `swift post {names[1]}`; or set create_containers = true."
            return Finding("containers", Grade.BAD, f"the container {name} is not there", advice)
    return Finding("containers", Grade.GOOD, "both containers are there")


async def _clock(account: Account) -> Finding:
    told = (await account.call("HEAD", "")).headers.get("Date", "")
    try:
        skew_s = abs((parsedate_to_datetime(told).astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        raise account.not_understood() from None
    grade = Grade.BAD if skew_s > _SKEW_BAD_S else Grade.DOUBTFUL if skew_s > _SKEW_DOUBTFUL_S else Grade.GOOD
    advice = "" if grade is Grade.GOOD else "Synchronise the clocks (NTP): temporary URLs expire by Swift's."
    return Finding("clock", grade, f"Swift's clock differs by {skew_s:.0f} s", advice)


async def _large_objects(account: Account, settings: SwiftStoreSettings) -> Finding:
    info = await account.info()
    slo, swift = _section(info, "slo"), _section(info, "swift")
    if not info:
        return Finding(
            "large-objects",
            Grade.DOUBTFUL,
            "Swift does not tell its limits (/info)",
            "Set expose_info = true in its proxy; without it, manifests of 1000 segments are assumed.",
        )
    if not slo:
        return Finding(
            "large-objects",
            Grade.BAD,
            "Swift has no static large objects",
            "Add slo to the pipeline of Swift's proxy: images are stored as such.",
        )
    size, largest = settings.segment_size_mib * 1024 * 1024, swift.get("max_file_size")
    if isinstance(largest, int) and size > largest:
        return Finding(
            "large-objects",
            Grade.BAD,
            f"Swift takes no object larger than {largest} bytes, and segments have {size}",
            "Set a smaller segment_size_mib.",
        )
    most = slo.get("max_manifest_segments")
    return Finding("large-objects", Grade.GOOD, f"static large objects of {most} segments and more can be made")


async def _public(account: Account, settings: SwiftStoreSettings) -> Finding:
    for name in (settings.container, f"{settings.container}_segments"):
        acl = (await account.call("HEAD", f"/{name}")).headers.get("X-Container-Read", "")
        if any(part.strip().startswith(".r:") for part in acl.split(",")):
            return Finding(
                "public",
                Grade.BAD,
                f"whoever knows its URL can read the container {name}",
                f"Remove the read ACL: `swift post -r '' {name}`.",
            )
    return Finding("public", Grade.GOOD, "nobody can read the containers without signing in, as far as ACLs tell")


async def _temporary_urls(account: Account, key: bytes | None) -> Finding:
    if key is None:
        return Finding("temporary-urls", Grade.GOOD, "no direct locations are given: temp_url_key_file is not set")
    digests = _section(await account.info(), "tempurl").get("allowed_digests", ())
    if "sha256" not in digests:
        advice = "Add tempurl to the pipeline of Swift's proxy, and sha256 to its allowed_digests."
        return Finding(
            "temporary-urls", Grade.BAD, "Swift takes no temporary URLs that are signed with SHA-256", advice
        )
    headers = (await account.call("HEAD", "")).headers
    told = [headers.get(f"X-Account-Meta-Temp-Url-Key{which}", "") for which in ("", "-2")]
    if any(hmac.compare_digest(one.encode(), key) for one in told):
        return Finding("temporary-urls", Grade.GOOD, "Swift knows the key of temporary URLs")
    return Finding(
        "temporary-urls",
        Grade.BAD if any(told) else Grade.DOUBTFUL,
        "the account does not have the key of temp_url_key_file, or does not show it to the service's user",
        "Set it: `swift post -m 'Temp-URL-Key: KEY'`.",
    )


async def _quota(account: Account, settings: SwiftStoreSettings) -> Finding:
    headers = dict((await account.call("HEAD", "")).headers)
    headers.update((await account.call("HEAD", f"/{settings.container}_segments")).headers)
    quotas = {
        name: headers[header]
        for name, header in (
            ("account", "X-Account-Meta-Quota-Bytes"),
            ("container", "X-Container-Meta-Quota-Bytes"),
        )
        if headers.get(header, "").isdigit()
    }
    if not quotas:
        return Finding("quota", Grade.GOOD, "the service's user sees no quota")
    return Finding(
        "quota", Grade.GOOD, ", ".join(f"the {name} may have {int(n[:19])} bytes" for name, n in quotas.items())
    )


def _section(info: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = info.get(name)
    return found if isinstance(found, Mapping) else {}
