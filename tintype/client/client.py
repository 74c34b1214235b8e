"""The client: one object with a face for each thing that one does, over one set of connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tintype.client.admin import Admin
from tintype.client.config import ClientConfig, load_config
from tintype.client.events import Events
from tintype.client.images import Images
from tintype.client.importer import Importer
from tintype.client.operations import Operations
from tintype.client.policy import Policy
from tintype.client.signer import Signer
from tintype.client.stores import Stores
from tintype.client.transport import Transport


class Client:
    """Images, operations, events, stores, what importer and signer do, what operators need. Made by :func:`connect`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.images = Images(transport)
        self.operations = Operations(transport)
        self.events = Events(transport)
        self.importer = Importer(transport)
        self.stores = Stores(transport)
        self.signer = Signer(transport)
        self.admin = Admin(transport)
        self.policy = Policy(transport)

    @property
    def config(self) -> ClientConfig:
        """What it was configured with."""
        return self._transport.config

    @property
    def position(self) -> int:
        """The highest log position that an answer has told; reads see at least the state at this position."""
        return self._transport.position


@asynccontextmanager
async def connect(
    config: ClientConfig | Path | str | None = None, *, project: str | None = None
) -> AsyncIterator[Client]:
    """Open a client, and close its connections at the end.

    ``config`` is a configuration or the path of one; without it, it is looked for as
    :func:`~tintype.client.config.load_config` says. Connections are made when they are first needed.

    Raises:
        ConfigurationError: there is no configuration, or it is not as it should be.
    """
    loaded = config if isinstance(config, ClientConfig) else load_config(config, project=project)
    transport = Transport(loaded)
    try:
        yield Client(transport)
    finally:
        await transport.close()
