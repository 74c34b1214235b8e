"""How the image of a key is named: ``IMAGE.OPERATION.NAME``; neither part can have a dot in it."""

from __future__ import annotations

import urllib.parse

from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import InvalidIdentifierError

REPLACING = ".replacing"
"""Behind the name of an image that is to take the place of the one without."""

SNAPSHOT = "snap"
"""The protected snapshot of committed bytes, as Glance and Nova call it."""


def image_name(key: BlobKey) -> str:
    """The name of a key's image."""
    return str(key).replace("/", ".")


def key_of(name: str) -> str | None:
    """The key whose image, or whose replacement, has that name; ``None`` for whatever else is in the pool."""
    try:
        return str(BlobKey.parse(name.removesuffix(REPLACING).replace(".", "/")))
    except InvalidIdentifierError:
        return None


def snapshot_url(fsid: str, pool: str, name: str) -> str:
    """``rbd://FSID/POOL/IMAGE/SNAPSHOT``, as Glance writes it and Nova reads it."""
    return "rbd://" + "/".join(urllib.parse.quote(part, safe="") for part in (fsid, pool, name, SNAPSHOT))
