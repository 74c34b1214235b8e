"""The SDK without ``await``, for scripts: the same names, arguments and errors.

    with tintype.client.sync.connect() as client:
        image = client.images.create("debian-12", disk_format="qcow2", container_format="bare")

One thread runs the asynchronous client; a method here hands its call over and waits. Nothing is written twice: each
method is made from the asynchronous one, its types included.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from tintype.client import admin, events, images, importer, operations, policy, signer, stores
from tintype.client import client as asynchronous
from tintype.client.config import ClientConfig

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F")


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tintype-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` there, and wait for it; an interrupt here cancels it there."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread."""
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Face(Generic[F]):
    """One face of the client, and the loop that its calls run on."""

    def __init__(self, face: F, loop: _Loop) -> None:
        self.face = face
        self.loop = loop


def waiting(method: Callable[Concatenate[F, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]:
    """The same method, which returns when the answer is there."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def run() -> T:
            return await method(self.face, *args, **kwargs)

        result: T = self.loop.run(run())
        return result

    return call


def iterating(method: Callable[Concatenate[F, P], AsyncIterator[T]]) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """The same method, as a plain iterator; closing that closes the other."""

    @functools.wraps(method)
    def iterate(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        source = method(self.face, *args, **kwargs)

        async def step() -> tuple[T] | None:
            try:
                return (await anext(source),)
            except StopAsyncIteration:
                return None

        async def close() -> None:
            aclose = getattr(source, "aclose", None)
            if aclose:
                await aclose()

        try:
            while (item := self.loop.run(step())) is not None:
                yield item[0]
        finally:
            self.loop.run(close())

    return iterate


class Images(_Face[images.Images]):
    """As :class:`tintype.client.images.Images`."""

    create = waiting(images.Images.create)
    get = waiting(images.Images.get)
    find = waiting(images.Images.find)
    list = iterating(images.Images.list)
    update = waiting(images.Images.update)
    delete = waiting(images.Images.delete)
    restore = waiting(images.Images.restore)
    copy = waiting(images.Images.copy)
    remove_copy = waiting(images.Images.remove_copy)
    locations = waiting(images.Images.locations)
    import_ = waiting(images.Images.import_)
    upload = waiting(images.Images.upload)
    download = waiting(images.Images.download)
    provenance = waiting(images.Images.provenance)
    verify = waiting(images.Images.verify)
    read = iterating(images.Images.read)
    history = iterating(images.Images.history)
    watch = iterating(images.Images.watch)


class Operations(_Face[operations.Operations]):
    """As :class:`tintype.client.operations.Operations`."""

    get = waiting(operations.Operations.get)
    wait = waiting(operations.Operations.wait)
    follow = iterating(operations.Operations.follow)
    cancel = waiting(operations.Operations.cancel)


class Events(_Face[events.Events]):
    """As :class:`tintype.client.events.Events`."""

    subscribe = iterating(events.Events.subscribe)
    stores = iterating(events.Events.stores)
    check_log = waiting(events.Events.check_log)


class Importer(_Face[importer.Importer]):
    """As :class:`tintype.client.importer.Importer`."""

    import_plugins = waiting(importer.Importer.import_plugins)


class Stores(_Face[stores.Stores]):
    """As :class:`tintype.client.stores.Stores`."""

    list = waiting(stores.Stores.list)
    get = waiting(stores.Stores.get)


class Signer(_Face[signer.Signer]):
    """As :class:`tintype.client.signer.Signer`."""

    sign_digest = waiting(signer.Signer.sign_digest)
    certificate = waiting(signer.Signer.certificate)
    keys = waiting(signer.Signer.keys)
    rotate = waiting(signer.Signer.rotate)


class Admin(_Face[admin.Admin]):
    """As :class:`tintype.client.admin.Admin`."""

    status = waiting(admin.Admin.status)
    rebuild = iterating(admin.Admin.rebuild)
    checkpoint = waiting(admin.Admin.checkpoint)
    backup = waiting(admin.Admin.backup)
    restore = waiting(admin.Admin.restore)
    scrub = iterating(admin.Admin.scrub)
    examine_store = waiting(admin.Admin.examine_store)
    sweep = iterating(admin.Admin.sweep)


class Policy(_Face[policy.Policy]):
    """As :class:`tintype.client.policy.Policy`."""

    test = waiting(policy.Policy.test)
    replay = iterating(policy.Policy.replay)


class Client:
    """As :class:`tintype.client.Client`. Made by :func:`connect`."""

    def __init__(self, client: asynchronous.Client, loop: _Loop) -> None:
        self._client = client
        self.images = Images(client.images, loop)
        self.operations = Operations(client.operations, loop)
        self.events = Events(client.events, loop)
        self.importer = Importer(client.importer, loop)
        self.stores = Stores(client.stores, loop)
        self.signer = Signer(client.signer, loop)
        self.admin = Admin(client.admin, loop)
        self.policy = Policy(client.policy, loop)

    @property
    def config(self) -> ClientConfig:
        """What it was configured with."""
        return self._client.config

    @property
    def position(self) -> int:
        """The highest log position that an answer has told."""
        return self._client.position


@contextmanager
def connect(config: ClientConfig | Path | str | None = None, *, project: str | None = None) -> Iterator[Client]:
    """Open a client, as :func:`tintype.client.connect` does, and close it at the end.

    Raises:
        ConfigurationError: there is no configuration, or it is not as it should be.
    """
    loop = _Loop()
    try:
        context = asynchronous.connect(config, project=project)

        async def enter() -> asynchronous.Client:
            return await context.__aenter__()

        async def leave() -> None:
            await context.__aexit__(None, None, None)

        client = loop.run(enter())
        try:
            yield Client(client, loop)
        finally:
            loop.run(leave())
    finally:
        loop.close()
