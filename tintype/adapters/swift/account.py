"""Requests to one account: signed in, each under a deadline, repeated once with a new token, answers bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from yarl import URL

from tintype.adapters.swift.credentials import Access, Credentials, authorities, credentials
from tintype.adapters.swift.errors import FAILURES, failure, refusal
from tintype.adapters.swift.settings import SwiftStoreSettings
from tintype.domain.errors import StoreUnavailableError

BODY_MAX = 16 * 1024 * 1024
"""No answer that is read whole is larger."""

PAGE = 1000
"""Names in one page of a list."""

_READ_BUFFER = 1024 * 1024
_IDLE_S = 30


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def etag(self) -> str:
        """Without its quotes."""
        return self.headers.get("Etag", "").strip('"')


class Account:
    """The requests of one store."""

    def __init__(self, store: str, settings: SwiftStoreSettings) -> None:
        """On the running event loop. Nothing is asked yet.

        Raises:
            ConfigurationError, KeyPermissionsError: a file that the settings name cannot be used.
        """
        self._store = store
        self._timeout_s = settings.timeout_s
        context = authorities(store, settings.ca_file)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.connections, ssl=context, keepalive_timeout=_IDLE_S),
            timeout=aiohttp.ClientTimeout(total=None),  # each request has a deadline of its own, below
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            headers={"Accept-Encoding": "identity", "User-Agent": "tintype"},
        )
        self._credentials: Credentials = credentials(store, settings, self._http)
        self._info: Mapping[str, Any] | None = None

    @property
    def store(self) -> str:
        """The store's name."""
        return self._store

    async def aclose(self) -> None:
        """End the connections."""
        self._credentials.close()
        await self._http.close()

    async def url(self, path: str) -> str:
        """The whole URL of ``/CONTAINER/OBJECT``."""
        return (await self._credentials.access()).storage_url + quote(path)

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Sequence[bytes | memoryview] = (),
        expect: Collection[int] = (),
    ) -> Reply:
        """Ask, and read the answer.

        Raises:
            StoreUnavailableError, StoreFullError: as the subclass that an answer outside of 2xx and ``expect`` is.
        """
        reply, used = await self._attempt(method, path, query, headers, body, None)
        if reply.status == 401:
            # The token has expired; a second 401 is about the user.
            reply, _ = await self._attempt(method, path, query, headers, body, used)
        if not 200 <= reply.status < 300 and reply.status not in expect:
            raise refusal(self._store, reply.status, reply.headers, reply.body)
        return reply

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str], *, expect: Collection[int] = ()
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose body is still to be read, with :meth:`pieces`.

        Raises:
            StoreUnavailableError: as for :meth:`call`.
        """
        answer = await self._opened(path, headers, None)
        try:
            if answer.status == 401:
                answer.close()
                answer = await self._opened(path, headers, await self._credentials.access())
            if not 200 <= answer.status < 300 and answer.status not in expect:
                raise refusal(self._store, answer.status, answer.headers, b"")
            yield answer
        finally:
            answer.close()  # what was not read is not waited for

    async def pieces(self, answer: aiohttp.ClientResponse, size: int) -> AsyncIterator[bytes]:
        """The body, in pieces of at most ``size``; each has to come in time.

        Raises:
            StoreUnavailableError: the connection ended early, or nothing came.
        """
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    piece = await answer.content.read(size)
            except FAILURES as exc:
                raise failure(self._store, exc) from exc
            if not piece:
                return
            yield piece

    async def list(self, container: str, prefix: str) -> AsyncIterator[Mapping[str, Any]]:
        """Every object of a container whose name begins so, in the order of names: ``name``, ``bytes``, …

        Raises:
            StoreUnavailableError: as for :meth:`call`.
        """
        marker = ""
        while True:
            query = {"format": "json", "limit": str(PAGE), "prefix": prefix, "marker": marker}
            page = self.parsed(await self.call("GET", f"/{container}", query=query), list)
            for found in page:
                if not isinstance(found, dict) or not isinstance(found.get("name"), str) or found["name"] <= marker:
                    raise self.not_understood()  # going on from such a name might never end
                marker = found["name"]
                yield found
            if not page:
                return

    async def info(self) -> Mapping[str, Any]:
        """What Swift tells of its limits; empty where it tells nothing."""
        if self._info is None:
            access = await self._credentials.access()
            parts = urlsplit(access.storage_url)
            reply = await self._request("GET", f"{parts.scheme}://{parts.netloc}/info", {}, ())
            self._info = self.parsed(reply, dict) if reply.status == 200 else {}
        return self._info

    def parsed(self, reply: Reply, kind: type[Any]) -> Any:
        """The JSON of an answer.

        Raises:
            StoreUnavailableError: it is none, or of another kind.
        """
        try:
            found = json.loads(reply.body or b"[]")
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, kind):
            raise self.not_understood()
        return found

    def not_understood(self) -> StoreUnavailableError:
        """An answer that Swift does not give."""
        return StoreUnavailableError(f"store {self._store!r}: Swift's answer is not understood")

    async def _attempt(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        body: Sequence[bytes | memoryview],
        expired: Access | None,
    ) -> tuple[Reply, Access]:
        access = await self._credentials.access(expired)
        url = access.storage_url + quote(path) + (f"?{urlencode(query)}" if query else "")
        sent = {**(headers or {}), "X-Auth-Token": access.token}
        if method in ("PUT", "POST"):
            sent["Content-Length"] = str(sum(len(piece) for piece in body))
        return await self._request(method, url, sent, body), access

    async def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Sequence[bytes | memoryview],
    ) -> Reply:
        loop = asyncio.get_running_loop()

        async def sending() -> AsyncIterator[bytes | memoryview]:
            for piece in body:
                deadline.reschedule(loop.time() + self._timeout_s)
                yield piece
            deadline.reschedule(loop.time() + self._timeout_s)

        try:
            async with (
                asyncio.timeout(self._timeout_s) as deadline,
                self._http.request(
                    method,
                    URL(url, encoded=True),
                    headers=headers,
                    data=sending() if body else None,
                    allow_redirects=False,
                ) as answer,
            ):
                found = bytearray()
                while piece := await answer.content.read(_READ_BUFFER):
                    found += piece
                    if len(found) > BODY_MAX:
                        raise self.not_understood()
                return Reply(answer.status, answer.headers, bytes(found))
        except FAILURES as exc:
            raise failure(self._store, exc) from exc

    async def _opened(self, path: str, headers: Mapping[str, str], expired: Access | None) -> aiohttp.ClientResponse:
        access = await self._credentials.access(expired)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._http.get(
                    URL(access.storage_url + quote(path), encoded=True),
                    headers={**headers, "X-Auth-Token": access.token},
                    allow_redirects=False,
                )
        except FAILURES as exc:
            raise failure(self._store, exc) from exc
