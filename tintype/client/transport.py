"""Calls as the whole SDK makes them: metadata, deadlines, retries, and reading what one has written.

It knows gRPC and no image: what is asked and answered is for the modules above.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
import grpc.aio

from tintype.api.catalog.v1 import catalog_pb2_grpc
from tintype.api.importer.v1 import importer_pb2_grpc
from tintype.api.signer.v1 import signer_pb2_grpc
from tintype.client.channels import open_channel, token_metadata
from tintype.client.config import ClientConfig, current_user
from tintype.client.errors import ClientError, ConfigurationError, ServiceUnavailableError
from tintype.client.statuses import from_rpc_error
from tintype.client.trace_metadata import trace_metadata
from tintype.codec.call_metadata import ACTOR_KEY, ADMIN_KEY, PROJECT_KEY

Request = TypeVar("Request")
Response = TypeVar("Response")
Sleep = Callable[[float], Awaitable[object]]

Metadata = tuple[tuple[str, str], ...]

AS_ADMIN = (ADMIN_KEY, "true")
"""The metadata of whoever speaks as an administrator."""

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 2.0


class Backoff:
    """Growing, spread pauses between attempts, until ``budget_s`` has been waited in all."""

    def __init__(self, budget_s: float, sleep: Sleep = asyncio.sleep) -> None:
        self._budget_s = budget_s
        self._sleep = sleep
        self._waited_s = 0.0
        self._delay_s = FIRST_DELAY_S

    async def pause(self) -> bool:
        """Wait a little; ``False``, at once, when the budget is used up."""
        if self._waited_s >= self._budget_s:
            return False
        delay_s = self._delay_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._waited_s += delay_s
        self._delay_s = min(self._delay_s * 2, MAX_DELAY_S)
        await self._sleep(delay_s)
        return True


class Transport:
    """The channels to the services, and how to call over them."""

    def __init__(self, config: ClientConfig, *, sleep: Sleep = asyncio.sleep) -> None:
        self.config = config
        self.sleep = sleep
        self.position = 0
        """The highest log position that an answer has told: every read asks for at least this one."""
        actor = _header_text(config.actor or current_user())
        self._metadata: Metadata = ((PROJECT_KEY, config.project), (ACTOR_KEY, actor))
        if config.admin:
            self._metadata += (AS_ADMIN,)
        self.on_close: set[Callable[[], Awaitable[None]]] = set()
        """What else to close at the end: a caller may leave an iterator, and not close it."""
        self._catalog = open_channel(config.address("catalog"), config)
        self._importer = self._channel("importer")
        self._signer = self._channel("signer")
        self._converter = self._channel("converter")
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self._catalog)
        self.operations = catalog_pb2_grpc.OperationsServiceStub(self._catalog)
        self.admin = catalog_pb2_grpc.CatalogAdminServiceStub(self._catalog)

    @property
    def metadata(self) -> Metadata:
        """What goes with every call: for whom, by whom, what proves it, and as part of which trace.

        Raises:
            ConfigurationError: the file of the token cannot be read.
        """
        return self._metadata + token_metadata(self.config) + trace_metadata()

    def _channel(self, service: str) -> grpc.aio.Channel | None:
        """The channel to a service that one may do without; that of the catalog where both are behind one address."""
        address = self.config.address(service)
        if address == self.config.address("catalog"):
            return self._catalog
        return open_channel(address, self.config) if address else None

    @property
    def importer_channel(self) -> grpc.aio.Channel:
        """The channel to the importer, for the calls that frame their messages by hand.

        Raises:
            ConfigurationError: the configuration names no importer.
        """
        if self._importer is None:
            raise ConfigurationError("client.importer is missing in the configuration: bytes cannot be moved")
        return self._importer

    @property
    def importer(self) -> importer_pb2_grpc.ImporterServiceStub:
        """The importer.

        Raises:
            ConfigurationError: the configuration names no importer.
        """
        return importer_pb2_grpc.ImporterServiceStub(self.importer_channel)

    @property
    def importer_admin(self) -> importer_pb2_grpc.ImporterAdminServiceStub:
        """What operators ask of the importer.

        Raises:
            ConfigurationError: the configuration names no importer.
        """
        return importer_pb2_grpc.ImporterAdminServiceStub(self.importer_channel)

    @property
    def signer(self) -> signer_pb2_grpc.SignerServiceStub:
        """The signer.

        Raises:
            ConfigurationError: the configuration names no signer.
        """
        return signer_pb2_grpc.SignerServiceStub(self._signer_channel)

    @property
    def signer_admin(self) -> signer_pb2_grpc.SignerAdminServiceStub:
        """What operators ask of the signer.

        Raises:
            ConfigurationError: the configuration names no signer.
        """
        return signer_pb2_grpc.SignerAdminServiceStub(self._signer_channel)

    @property
    def _signer_channel(self) -> grpc.aio.Channel:
        if self._signer is None:
            raise ConfigurationError("client.signer is missing in the configuration: nobody can be asked to sign")
        return self._signer

    @property
    def channels(self) -> Mapping[str, grpc.aio.Channel]:
        """The channel to each service that the configuration names."""
        every = {
            "catalog": self._catalog,
            "importer": self._importer,
            "converter": self._converter,
            "signer": self._signer,
        }
        return {name: channel for name, channel in every.items() if channel is not None}

    def observe(self, position: int) -> None:
        """Remember that the log has at least come to ``position``."""
        self.position = max(self.position, position)

    def backoff(self) -> Backoff:
        """The pauses of one call."""
        return Backoff(self.config.retry_s, self.sleep)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout_s: float | None = None,
        extra_metadata: Metadata = (),
    ) -> Response:
        """Call, and call again while the service does not answer: every request carries what makes that safe.

        Raises:
            ClientError: the service refused, or did not answer within ``config.retry_s``.
        """
        backoff = self.backoff()
        timeout_s = timeout_s or self.config.timeout_s
        while True:
            try:
                async with translated():
                    return await method(request, timeout=timeout_s, metadata=self.metadata + extra_metadata)
            except ServiceUnavailableError as exc:
                if not is_transient(exc) or not await backoff.pause():
                    raise

    async def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        *,
        extra_metadata: Metadata = (),
        begun: Callable[[Mapping[str, str]], None] | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Yield what the service sends; closing the iterator cancels the call.

        ``begun`` is told the metadata that come before the first message.

        Raises:
            ClientError: the service refused, or the stream broke.
        """
        call = method(request, metadata=self.metadata + extra_metadata)
        try:
            async with translated():
                if begun:
                    begun({key: str(value) for key, value in await call.initial_metadata() or ()})
                async for response in call:
                    yield response
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the channels, and whatever else is open."""
        for close in tuple(self.on_close):
            await close()
        for channel in set(self.channels.values()):
            await channel.close()


def new_request_id() -> str:
    """A name for one mutation, under which it may be repeated."""
    return str(uuid.uuid4())


def is_transient(error: ClientError) -> bool:
    """Whether the same request may be sent again at once: a deadline that passed is the caller's to judge."""
    return isinstance(error, ServiceUnavailableError) and error.retryable and error.reason != "DEADLINE_EXCEEDED"


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn a failed call into an error of the SDK.

    Raises:
        ClientError: instead of gRPC's error.
    """
    try:
        yield
    except grpc.aio.AioRpcError as exc:
        raise from_rpc_error(exc) from exc


def _header_text(text: str) -> str:
    """``text`` as metadata can carry it: printable ASCII."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:128]
