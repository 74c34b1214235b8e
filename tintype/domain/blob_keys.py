"""How stored bytes are named: ``<image id>/<operation id>/<name>``, so that their owner can be read off the key."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tintype.domain.errors import InvalidIdentifierError
from tintype.domain.values import ImageId, OperationId

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_KEY = re.compile(rf"({_UUID})/({_UUID})/([A-Za-z0-9][A-Za-z0-9_-]{{0,63}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class BlobKey:
    """The three parts of a key. ``name`` has 1 to 64 letters, digits, ``_`` and ``-``."""

    image_id: ImageId
    operation_id: OperationId
    name: str

    @classmethod
    def parse(cls, text: str) -> BlobKey:
        """Read a key.

        Raises:
            InvalidIdentifierError: it has another form, such as one that leads out of the store.
        """
        found = _KEY.fullmatch(text)
        if not found:
            raise InvalidIdentifierError(f"{text[:80]!r} is not the key of stored bytes")
        return cls(ImageId(found[1]), OperationId(found[2]), found[3])

    def __str__(self) -> str:
        return f"{self.image_id}/{self.operation_id}/{self.name}"
