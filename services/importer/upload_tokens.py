"""The name of an upload: all that is known of it, so that any replica can go on with it.

It is opaque to clients, and not secret: whoever presents one has to be allowed to change its image, each time anew. A
forged one says no more than StartUpload could have been asked for: its operation follows from its image, so that it
cannot name the operation of another one.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from dataclasses import dataclass

from tintype.domain.access import Caller
from tintype.domain.blob_keys import BlobKey
from tintype.domain.errors import InvalidIdentifierError, TintypeError, UploadNotFoundError
from tintype.domain.events import StagePurpose
from tintype.domain.values import (
    DEFAULT_PLACEMENT,
    DIGEST_ALGORITHMS,
    MAX_STORES,
    STORE_NAME,
    Digest,
    ImageId,
    OperationId,
    Placement,
    image_id,
)

MAX_TOKEN_LENGTH = 4096
MAX_REQUEST_ID_LENGTH = 128
MAX_SIZE = 2**62
_VERSION = 1
_VERSION_WITH_HASH = 2
_VERSION_WITH_STORES = 3
"""An upload without a hash and without stores of its own keeps the name that older replicas read."""

_NAMESPACE = uuid.UUID("0a3f0c35-6f0e-5b5c-9d5a-2f7a4c1c9e11")
_REQUEST_NAMESPACE = uuid.UUID("6c1d4c62-8f5b-5e0e-8a53-5d6f0d4b7a20")
_PURPOSES = {"upload": StagePurpose.UPLOAD, "stage": StagePurpose.STAGE}


@dataclass(frozen=True, slots=True)
class UploadToken:
    """One upload. ``size`` in bytes and ``digest`` are what the bytes have to be, where the user said it.

    ``hash_algorithm`` is of a digest to take besides the site's; empty is none.
    ``nonce`` is a lower-case UUID that tells the image's uploads apart. ``placement`` names the stores that the bytes
    go to; :data:`~tintype.domain.values.DEFAULT_PLACEMENT` is the default one.
    """

    image_id: ImageId
    nonce: str
    purpose: StagePurpose
    size: int | None
    digest: Digest | None
    hash_algorithm: str = ""
    placement: Placement = DEFAULT_PLACEMENT

    @property
    def operation_id(self) -> OperationId:
        """The upload's operation; no other image has one of that id."""
        return OperationId(str(uuid.uuid5(_NAMESPACE, f"{self.image_id}\0{self.nonce}")))

    @property
    def key(self) -> str:
        """Where the bytes are kept."""
        return str(BlobKey(self.image_id, self.operation_id, "source"))

    @property
    def decompressed_key(self) -> str:
        """Where the bytes are kept that came out of compressed ones; those at :attr:`key` are not wanted then."""
        return str(BlobKey(self.image_id, self.operation_id, "source-decompressed"))

    def __str__(self) -> str:
        version = _VERSION_WITH_HASH if self.hash_algorithm else _VERSION
        has_stores = self.placement != DEFAULT_PLACEMENT
        fields = [
            _VERSION_WITH_STORES if has_stores else version,
            self.image_id,
            self.nonce,
            self.purpose.value,
            self.size,
            str(self.digest) if self.digest else "",
            *((self.hash_algorithm,) if self.hash_algorithm or has_stores else ()),
            *((list(self.placement.stores), self.placement.all_must_succeed) if has_stores else ()),
        ]
        return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> UploadToken:
        """Read an upload's name; only what :meth:`__str__` writes is one.

        Raises:
            UploadNotFoundError: it is none.
        """
        try:
            token = _decoded(text)
        except (ValueError, RecursionError, TintypeError):
            token = None
        if token is None or str(token) != text:
            raise UploadNotFoundError("no such upload")
        return token


def nonce_of(caller: Caller, request_id: str) -> str:
    """What tells an upload apart: the same for a project's same ``request_id``, and always another for none.

    Raises:
        InvalidIdentifierError: the request id is too long, or cannot be printed.
    """
    if len(request_id) > MAX_REQUEST_ID_LENGTH or not request_id.isprintable():
        raise InvalidIdentifierError(f"a request id has at most {MAX_REQUEST_ID_LENGTH} printable characters")
    if not request_id:
        return str(uuid.uuid4())
    return str(uuid.uuid5(_REQUEST_NAMESPACE, f"{caller.project}\0{request_id}"))


def _decoded(text: str) -> UploadToken | None:
    if len(text) > MAX_TOKEN_LENGTH or not text.isascii():
        return None
    try:
        fields = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except binascii.Error:
        return None
    match fields:
        case [int(version), str(image), str(nonce), str(purpose), int() | None as size, str(digest), *rest]:
            options = _options(version, rest)
            if options is None or purpose not in _PURPOSES or isinstance(size, bool):
                return None
            if size is not None and not 0 <= size <= MAX_SIZE:
                return None
            hash_algorithm, placement = options
            return UploadToken(
                image_id(image),
                str(uuid.UUID(nonce)),
                _PURPOSES[purpose],
                size,
                Digest.parse(digest) if digest else None,
                hash_algorithm,
                placement,
            )
    return None


def _options(version: int, rest: list[object]) -> tuple[str, Placement] | None:
    match version, rest:
        case 1, _:
            return "", DEFAULT_PLACEMENT
        case 2, [str(name)] if name in DIGEST_ALGORITHMS:
            return name, DEFAULT_PLACEMENT
        case 3, [str(name), [*stores], bool(all_must_succeed)] if name == "" or name in DIGEST_ALGORITHMS:
            names = tuple(store for store in stores if isinstance(store, str) and STORE_NAME.fullmatch(store))
            if names and len(names) == len(stores) <= MAX_STORES:
                return name, Placement(names, all_must_succeed=all_must_succeed)
    return None
