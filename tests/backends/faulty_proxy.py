"""A TCP proxy on loopback that cuts, holds, slows down, falsifies and answers for the server behind it.

It runs on an event loop in a thread of its own: blocking clients, clients on any loop and programs of other processes
can use it, and its methods can be called from anywhere. All that it knows of HTTP/1.1 is where requests begin and end,
so that a :class:`Fault` can be for some requests only; with ``http=False`` bytes of any protocol pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

PIECE = 64 * 1024
_HEAD_MAX = 256 * 1024
_SLICE_S = 0.05
"""How often what waits looks whether it still has to."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request that a client made; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]


def any_request(request: Request) -> bool:
    """Every one."""
    return True


@dataclass(kw_only=True, slots=True)
class Fault:
    """What happens to requests that ``matches`` takes: ``times`` times (``None``: for ever), after ``skip`` others."""

    matches: Callable[[Request], bool] = any_request
    times: int | None = 1
    skip: int = 0
    seen: int = field(default=0, init=False)
    """How many requests it has befallen."""

    def takes(self, request: Request) -> bool:
        """Whether it befalls this request; counts it, if so."""
        if (self.times is not None and self.seen >= self.times) or not self.matches(request):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.seen += 1
        return True


@dataclass(kw_only=True, slots=True)
class Answer(Fault):
    """The proxy answers, and the server hears nothing."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def bytes(self, request: Request) -> bytes:
        """The whole answer."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head if request.method == "HEAD" else head + self.body


@dataclass(kw_only=True, slots=True)
class CutRequest(Fault):
    """The connection is reset once so many bytes of the request's body went to the server."""

    after: int = 0


@dataclass(kw_only=True, slots=True)
class CutAnswer(Fault):
    """The server does all, and of the body of its answer the client sees so many bytes; of the head, with -1, none."""

    after: int = -1
    is_reset: bool = True
    """Else the connection ends as if all had been sent."""


@dataclass(kw_only=True, slots=True)
class CorruptRequest(Fault):
    """One bit of the request's body is flipped on its way."""

    at: int = 0


@dataclass(kw_only=True, slots=True)
class CorruptAnswer(Fault):
    """One bit of the answer's body is flipped on its way."""

    at: int = 0


@dataclass(kw_only=True, slots=True)
class RewriteAnswer(Fault):
    """The head of the answer, from its status line to its empty line, is another."""

    rewrite: Callable[[bytes], bytes]


@dataclass(kw_only=True, slots=True)
class Hold(Fault):
    """The request is taken, and never answered."""


class _CutError(Exception):
    """The connection is to be reset."""


class FaultyProxy:
    """In front of the server at ``host:port``; harmless until told otherwise."""

    def __init__(self, host: str, port: int, *, http: bool = True) -> None:
        self._upstream = (host, port)
        self._http = http
        self._faults: list[Fault] = []
        self._bytes_s: float | None = None
        self._delay_s = 0.0
        self._is_frozen = False
        self._is_refusing = False
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, name="faulty-proxy", daemon=True)
        self._thread.start()
        self.requests: deque[Request] = deque(maxlen=10_000)
        """What was asked for, in order."""

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._listening.getsockname()[1])

    @property
    def url(self) -> str:
        """The same, for HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def connect_to(self, host: str, port: int) -> None:
        """New connections lead there."""
        self._upstream = (host, port)

    def add(self, fault: Fault) -> Fault:
        """Let a fault befall requests from now on; the first that takes a request is the only one that does."""
        self._faults.append(fault)
        return fault

    def slow_down(self, bytes_s: float) -> None:
        """All connections together pass so many bytes a second, both ways."""
        self._bytes_s = bytes_s

    def delay(self, seconds: float) -> None:
        """Every piece of data passes so much later."""
        self._delay_s = seconds

    def freeze(self) -> None:
        """Connections are taken and stay open, and nothing passes."""
        self._is_frozen = True

    def thaw(self) -> None:
        """What was frozen goes on."""
        self._is_frozen = False

    def refuse(self) -> None:
        """Reset all connections, and every new one."""
        self._is_refusing = True
        self.cut()

    def accept(self) -> None:
        """End :meth:`refuse`."""
        self._is_refusing = False

    def cut(self) -> None:
        """Reset all connections that there are now."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def mend(self) -> None:
        """Do no harm any more."""
        self._faults.clear()
        self._bytes_s, self._delay_s = None, 0.0
        self.accept()
        self.thaw()

    def stop(self) -> None:
        """Reset all connections, and end."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listening.close()

    # --- on its own loop ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listening, limit=PIECE))
        self._loop.run_forever()
        server.close()
        self._reset_all()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer, is_http=self._http)
        self._connections.add(connection)
        try:
            if self._is_refusing:
                raise _CutError
            await self.pass_on(0)
            await connection.serve(*self._upstream)
        except (_CutError, OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            connection.reset()
        except asyncio.CancelledError:
            connection.reset()  # the proxy ends
        finally:
            connection.close()
            self._connections.discard(connection)

    def fault(self, request: Request) -> Fault | None:
        """What befalls this request."""
        self.requests.append(request)
        return next((fault for fault in list(self._faults) if fault.takes(request)), None)

    async def pass_on(self, size: int) -> None:
        """Wait until ``size`` bytes may pass."""
        while self._is_frozen:
            await asyncio.sleep(_SLICE_S)
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if self._bytes_s is not None and size:
            async with self._gate:  # the limit is for all connections together
                begun = self._loop.time()
                while (left := begun + self._seconds_for(size) - self._loop.time()) > 0:
                    await asyncio.sleep(min(left, _SLICE_S))

    def _seconds_for(self, size: int) -> float:
        return 0.0 if self._bytes_s is None else size / self._bytes_s

    @property
    def piece(self) -> int:
        """How much is read at once: little, where the limit is low."""
        return PIECE if self._bytes_s is None else max(1, min(PIECE, int(self._bytes_s * _SLICE_S)))


class _Connection:
    """One connection of a client, and the proxy's own to the server."""

    def __init__(
        self, proxy: FaultyProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_http: bool
    ) -> None:
        self._proxy = proxy
        self._is_http = is_http
        self._client = reader
        self._to_client = writer
        self._to_server: asyncio.StreamWriter | None = None
        self._answer_fault: Fault | None = None

    async def serve(self, host: str, port: int) -> None:
        server, self._to_server = await asyncio.open_connection(host, port, limit=PIECE)
        answers = asyncio.create_task(self._pass_answers(server))
        requests = asyncio.create_task(self._pass_requests())
        try:
            done, _ = await asyncio.wait((answers, requests), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if requests in done:
                await answers  # the client may have closed its half only
        finally:
            for task in (answers, requests):
                task.cancel()
            await asyncio.gather(answers, requests, return_exceptions=True)

    def reset(self) -> None:
        """Let both sides see a connection that was reset."""
        for writer in (self._to_client, self._to_server):
            if writer is not None:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                writer.transport.abort()

    def close(self) -> None:
        """End both sides."""
        for writer in (self._to_client, self._to_server):
            if writer is not None:
                writer.close()

    async def _pass_requests(self) -> None:
        assert self._to_server is not None
        while self._is_http:
            head = await _read_head(self._client)
            if not head:
                break
            await self._pass_request(head)
        while not self._is_http and (piece := await self._client.read(self._proxy.piece)):
            await self._send(self._to_server, piece)
        with contextlib.suppress(OSError):
            self._to_server.write_eof()

    async def _pass_request(self, head: bytes) -> None:
        assert self._to_server is not None
        request = _parse(head)
        fault = self._proxy.fault(request)
        if isinstance(fault, Answer):
            if "expect" not in request.headers:  # else the client has not begun to send the body
                async for _ in _body(self._client, request):
                    pass
            await self._send(self._to_client, fault.bytes(request))
            if "expect" in request.headers:
                self._to_client.close()
            return
        if isinstance(fault, Hold):
            await asyncio.Event().wait()
        self._answer_fault = fault if isinstance(fault, (CutAnswer, CorruptAnswer, RewriteAnswer)) else None
        await self._send(self._to_server, head)
        passed = 0
        async for piece in _body(self._client, request):
            if isinstance(fault, CorruptRequest):
                piece = _flipped(piece, fault.at - passed)
            if isinstance(fault, CutRequest) and passed + len(piece) >= fault.after:
                await self._send(self._to_server, piece[: fault.after - passed])
                raise _CutError
            await self._send(self._to_server, piece)
            passed += len(piece)
        if isinstance(fault, CutRequest):
            raise _CutError

    async def _pass_answers(self, server: asyncio.StreamReader) -> None:
        while piece := await server.read(self._proxy.piece):
            if self._answer_fault is not None:
                await self._spoil(server, piece)
            else:
                await self._send(self._to_client, piece)
        self._to_client.close()

    async def _spoil(self, server: asyncio.StreamReader, begin: bytes) -> None:
        """Pass one answer, of which ``begin`` is read, with its fault."""
        fault, self._answer_fault = self._answer_fault, None
        head, body = await _final_head(server, begin)
        if isinstance(fault, CutAnswer) and fault.after < 0:
            raise _CutError
        await self._send(self._to_client, fault.rewrite(head) if isinstance(fault, RewriteAnswer) else head)
        passed = 0
        while not isinstance(fault, RewriteAnswer):
            if isinstance(fault, CorruptAnswer):
                body = _flipped(body, fault.at - passed)
            if isinstance(fault, CutAnswer) and passed + len(body) >= fault.after:
                await self._send(self._to_client, body[: fault.after - passed])
                if fault.is_reset:
                    raise _CutError
                self._to_client.close()
                return
            await self._send(self._to_client, body)
            passed += len(body)
            if isinstance(fault, CorruptAnswer) and passed > fault.at:
                return
            body = await server.read(self._proxy.piece)
            if not body:
                return
        await self._send(self._to_client, body)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        step = self._proxy.piece
        for begin in range(0, len(data), step):
            piece = data[begin : begin + step]
            await self._proxy.pass_on(len(piece))
            writer.write(piece)
            await writer.drain()


_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: a close is a reset."""


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """A request from its first line to its empty line; nothing at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = await reader.readline()
        if not line:
            return b""
        head += line
        if len(head) > _HEAD_MAX:
            raise _CutError
    return head


async def _final_head(reader: asyncio.StreamReader, begin: bytes) -> tuple[bytes, bytes]:
    """The head of the answer itself, behind ``100 Continue`` before it, and what of its body is read."""
    interim = b""
    while True:
        head, end, rest = begin.partition(b"\r\n\r\n")
        if end and head.split(b" ", 2)[1].startswith(b"1"):
            interim += head + end
            begin = rest
        elif end:
            return interim + head + end, rest
        else:
            more = await reader.read(PIECE)
            if not more:
                raise _CutError
            begin += more


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    fields = (line.partition(":") for line in lines if line)
    return Request(method, target, {name.strip().lower(): value.strip() for name, _, value in fields})


async def _body(reader: asyncio.StreamReader, request: Request) -> AsyncIterator[bytes]:
    if "chunked" in request.headers.get("transfer-encoding", "").lower():
        while True:
            line = await reader.readuntil(b"\r\n")
            left = int(line.split(b";")[0], 16)
            yield line
            data = await reader.readexactly(left + 2)
            yield data
            if left == 0:
                return
    left = int(request.headers.get("content-length", "0"))
    while left:
        piece = await reader.read(min(PIECE, left))
        if not piece:
            raise _CutError
        left -= len(piece)
        yield piece


def _flipped(data: bytes, at: int) -> bytes:
    if not 0 <= at < len(data):
        return data
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@contextlib.contextmanager
def faulty_proxy(host: str, port: int, *, http: bool = True) -> Iterator[FaultyProxy]:
    """A proxy that ends with the context."""
    proxy = FaultyProxy(host, port, http=http)
    try:
        yield proxy
    finally:
        proxy.stop()
