"""The connection to NATS: for ever reconnecting, every request with a deadline, errors in Tintype's own words."""

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import nats.errors
import nkeys
import structlog
from nats.aio.client import Client, Server
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tintype.adapters.nats.backoff import Backoff
from tintype.codec.cloudevents import MAX_EVENT_BYTES
from tintype.codec.streams import MINIMUM_SERVER_VERSION, MINIMUM_VERSION_TEXT
from tintype.domain.errors import ConfigurationError, EventLogUnavailableError
from tintype.runtime.bounded_file import read_bounded

_log = structlog.get_logger()


MINIMUM_MAX_PAYLOAD = MAX_EVENT_BYTES + 8 * 1024
"""The largest event with the headers of NATS."""

_RECONNECT_DELAY_S = (0.05, 0.5)
_FIRST_CONNECT_DELAY_S = 0.25
_PING_INTERVAL_S = 10
_USER_SEED = re.compile(rb"^SU[A-Z2-7]{56}(?=\s*$)", re.MULTILINE)
_MAX_CREDENTIALS_BYTES = 64 * 1024
_LONGEST_WAIT_S = 3600.0  # the deadline is set around it


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """How to reach NATS.

    ``urls`` are of one cluster. ``name`` shows in the server's monitoring. ``request_timeout_s`` bounds each question
    to the server. ``tls`` gives the context of the next connection, and ``credentials_file`` is NATS' own (a JWT).
    """

    urls: tuple[str, ...]
    name: str = "tintype"
    request_timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    tls: Callable[[], ssl.SSLContext] | None = None
    credentials_file: Path | None = None

    @property
    def hosts(self) -> str:
        """Where the servers are, without the passwords that URLs may hold."""
        return ", ".join(urlsplit(url).netloc.rpartition("@")[2] for url in self.urls)


class NatsConnection:
    """One connection that many adapters may share. Close it last."""

    def __init__(self, client: Client, settings: NatsSettings) -> None:
        self._client = client
        self._timeout_s = settings.request_timeout_s
        self._on_reconnect: set[Callable[[], None]] = set()

    @classmethod
    async def open(cls, settings: NatsSettings) -> Self:
        """Connect, and check that the server is one that Tintype can use.

        Raises:
            EventLogUnavailableError: no server answers, or it does not let us in.
            ConfigurationError: the server is too old, or takes too small messages; the credentials cannot be used.
        """
        client = Client()
        connection = cls(client, settings)
        if settings.credentials_file:
            await asyncio.to_thread(_require_credentials, settings.credentials_file)
        try:
            # The client would try for ever, at the start as later.
            async with asyncio.timeout(settings.connect_timeout_s):
                await _connect(client, settings, connection._reconnected)
        except (OSError, nats.errors.Error, TimeoutError) as exc:
            await client.close()
            raise EventLogUnavailableError(
                f"NATS at {settings.hosts} does not answer: {_text(client.last_error or exc)}"
            ) from exc
        try:
            require_server(client)
        except ConfigurationError as exc:
            await client.close()
            raise ConfigurationError(f"nats.url: {settings.hosts}: {exc}") from exc
        return connection

    async def close(self) -> None:
        """Close the connection; whoever still uses it gets ``EventLogUnavailableError``."""
        with suppress(OSError):  # a server that has gone cannot be told
            await self._client.close()

    @property
    def is_connected(self) -> bool:
        """Whether a server is there right now."""
        return self._client.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether it has ended for good: on request, or because the server refuses us (bad credentials)."""
        return self._client.is_closed

    @property
    def server_version(self) -> str:
        """Of the server that it is connected to, or was last."""
        version = self._client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    @property
    def received_messages(self) -> int:
        """How many messages came over this connection, answers and statuses included."""
        return self._client.stats["in_msgs"]

    def new_inbox(self) -> str:
        """A subject that nobody else listens to."""
        return self._client.new_inbox()

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        waits_for_responder: bool = False,
    ) -> Msg:
        """Ask, and wait for the answer.

        Where nobody listens, nothing was done. With ``waits_for_responder`` it is then asked again until the time is
        over, as while a cluster elects a leader.

        Raises:
            EventLogUnavailableError: no answer in time.
        """
        backoff = Backoff()
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                while True:
                    try:
                        return await self._ask(subject, payload, headers)
                    except nats.errors.NoRespondersError:
                        if not waits_for_responder:
                            raise
                    await backoff.wait()
        except (OSError, nats.errors.Error, TimeoutError) as exc:
            raise EventLogUnavailableError(f"NATS does not answer: {_text(exc)}") from exc

    async def _ask(self, subject: str, payload: bytes, headers: Mapping[str, str] | None) -> Msg:
        sent = None if headers is None else dict(headers)
        with _cancellation_kept():
            return await self._client.request(subject, payload, timeout=_LONGEST_WAIT_S, headers=sent)

    async def api(self, call: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call JetStream's API, and answer its reply; a refusal stands in it under ``error``.

        Raises:
            EventLogUnavailableError: no answer in time, or none that can be read.
        """
        reply = await self.request(f"$JS.API.{call}", json.dumps(body).encode() if body else b"")
        return read_json(reply.data)

    async def publish(
        self, subject: str, payload: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send without waiting.

        Raises:
            EventLogUnavailableError: there is no connection, and no room to keep it until there is one.
        """
        try:
            await self._client.publish(
                subject, payload, reply=reply, headers=None if headers is None else dict(headers)
            )
        except (OSError, nats.errors.Error) as exc:
            raise EventLogUnavailableError(f"NATS does not answer: {_text(exc)}") from exc

    async def subscribe(self, subject: str, callback: Callable[[Msg], None]) -> Subscription:
        """Hand every message on ``subject`` to ``callback``, which must be quick.

        Raises:
            EventLogUnavailableError: the connection is closed.
        """

        async def handle(message: Msg) -> None:
            callback(message)

        try:
            return await self._client.subscribe(subject, cb=handle)
        except (OSError, nats.errors.Error) as exc:
            raise EventLogUnavailableError(f"NATS does not answer: {_text(exc)}") from exc

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; also one that the end of the connection ended."""
        try:
            await subscription.unsubscribe()
        except (OSError, nats.errors.Error) as exc:
            _log.debug("subscription was gone already", error=_text(exc))

    async def drain(self, subscription: Subscription) -> None:
        """End a subscription once all messages that are on their way to it have come, if a server can be asked."""
        if not self.is_connected:
            await self.unsubscribe(subscription)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                with _cancellation_kept():
                    await subscription.drain()  # type: ignore[no-untyped-call]
        except (OSError, nats.errors.Error, TimeoutError) as exc:
            _log.debug("subscription was not drained", error=_text(exc))

    def call_on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after every reconnect, until the returned function is called."""
        self._on_reconnect.add(callback)
        return lambda: self._on_reconnect.discard(callback)

    async def _reconnected(self) -> None:
        _log.info("connection to NATS restored")
        for callback in tuple(self._on_reconnect):
            callback()


def read_json(data: bytes) -> dict[str, Any]:
    """An answer of JetStream.

    Raises:
        EventLogUnavailableError: it is no JSON object.
    """
    try:
        answer = json.loads(data)
    except ValueError as exc:
        raise EventLogUnavailableError("NATS gave an answer that is no JSON") from exc
    if not isinstance(answer, dict):
        raise EventLogUnavailableError("NATS gave an answer that is no JSON object")
    return answer


def require_server(client: Client) -> None:
    """Check what a server said of itself when it let us in.

    Raises:
        ConfigurationError: its version or its ``max_payload`` is too small.
    """
    version = client.connected_server_version
    if (version.major, version.minor) < MINIMUM_SERVER_VERSION:
        found = f"{version.major}.{version.minor}.{version.patch}"
        raise ConfigurationError(f"nats-server {found} is too old: Tintype needs {MINIMUM_VERSION_TEXT} or later")
    if client.max_payload < MINIMUM_MAX_PAYLOAD:
        raise ConfigurationError(
            f"the max_payload of nats-server is {client.max_payload} bytes, and must be {MINIMUM_MAX_PAYLOAD} or more"
        )


def _require_credentials(path: Path) -> None:
    """Check that there is a file of NATS credentials; whether they are good is the server's to say.

    Raises:
        ConfigurationError: it cannot be read, or holds something else.
    """
    content = read_bounded(path, _MAX_CREDENTIALS_BYTES, f"nats.credentials_file: {path}")
    seed = _USER_SEED.search(content)
    try:
        if b"BEGIN NATS USER JWT" in content and seed is not None:
            nkeys.from_seed(bytearray(seed[0])).wipe()
            return
    except (nkeys.NkeysError, ValueError):
        pass
    raise ConfigurationError(f"nats.credentials_file: {path} holds no NATS user's JWT and seed")


async def _connect(client: Client, settings: NatsSettings, reconnected: Callable[[], Any]) -> None:
    async def failed(error: Exception) -> None:
        _log.warning("connection to NATS failed", error=_text(error))

    async def disconnected() -> None:
        if not client.is_closed:
            _log.warning("connection to NATS lost")

    async def closed() -> None:
        _log.info("connection to NATS closed")

    def next_server(servers: list[Server], _: dict[str, Any]) -> tuple[Server, float]:
        """The least tried one, after a random while, not all clients at once; with the certificates of today."""
        if settings.tls:
            client.options["tls"] = settings.tls()
        return min(servers, key=lambda server: server.reconnects), random.uniform(*_RECONNECT_DELAY_S)  # noqa: S311  # jitter

    await client.connect(
        list(settings.urls),
        name=settings.name,
        error_cb=failed,
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        closed_cb=closed,
        connect_timeout=settings.connect_timeout_s,  # type: ignore[arg-type]  # fractions are fine
        max_reconnect_attempts=-1,
        reconnect_time_wait=_FIRST_CONNECT_DELAY_S,  # type: ignore[arg-type]
        reconnect_to_server_handler=next_server,
        tls=settings.tls() if settings.tls else None,
        user_credentials=str(settings.credentials_file) if settings.credentials_file else None,
        ping_interval=_PING_INTERVAL_S,
    )


@contextmanager
def _cancellation_kept() -> Iterator[None]:
    """Raise a cancellation that came while the client waited, and that it lost.

    It waits by ``asyncio.wait_for``, which before Python 3.12 loses one that comes together with the answer
    (python/cpython#86296): whoever was cancelled would then go on for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
