"""The stores of a deployment, as those see them who choose one."""

from __future__ import annotations

from tintype.api.importer.v1 import importer_pb2
from tintype.client import store_decoding
from tintype.client.statuses import from_domain
from tintype.client.store_models import Store
from tintype.client.transport import Transport
from tintype.domain.errors import StoreNotFoundError


class Stores:
    """What stores there are, and how they are; :class:`~tintype.client.images.Images` moves bytes between them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> tuple[Store, ...]:
        """All stores: the default one first, then by weight and name.

        Raises:
            ConfigurationError: the configuration names no importer.
        """
        answer = await self._transport.call(self._transport.importer.ListStores, importer_pb2.ListStoresRequest())
        return tuple(store_decoding.store(message) for message in answer.stores)

    async def get(self, name: str) -> Store:
        """The store of that name.

        Raises:
            NotFoundError: reason ``STORE_NOT_FOUND``: none is configured.
        """
        for store in await self.list():
            if store.name == name:
                return store
        raise from_domain(StoreNotFoundError(f"store {name[:80]!r} is not configured here"))
