"""The order of a list, and the opaque tokens that lead to its next page.

A token holds where the last page ended, and a digest of what it belongs to: the list's filter, order and caller. It
grants nothing (a query checks what the caller may see on every page), so it is no secret and is not signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import msgspec

from tintype.domain.errors import InvalidArgumentError, InvalidFilterError

MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_BYTES = 3 * 1024 * 1024
"""One page is one message, and gRPC clients take 4 MiB unless they are told otherwise."""

MAX_TOKEN_LENGTH = 4096
MAX_ORDER_LENGTH = 256
_MAX_INT64 = 2**63 - 1

SORTABLE: dict[str, type[str] | type[int]] = {
    "id": str,
    "name": str,
    "status": str,
    "visibility": str,
    "disk_format": str,
    "container_format": str,
    "size": int,
    "min_disk": int,
    "min_ram": int,
    "created_at": int,
    "updated_at": int,
}
"""What a list can be ordered by, and the type that it has in a row."""

Key = tuple[str | int, ...]
"""Where a row stands in an order: the values of its columns."""


@dataclass(frozen=True, slots=True)
class OrderBy:
    """One column of an order."""

    field: str
    is_descending: bool


def parsed_order(text: str) -> tuple[OrderBy, ...]:
    """Read an ``order_by``; the id is added as the last column, so that the order is total.

    Raises:
        InvalidFilterError: a field that cannot be ordered by, or one that comes twice.
    """
    if len(text) > MAX_ORDER_LENGTH:
        raise InvalidFilterError(f"order_by has at most {MAX_ORDER_LENGTH} characters")
    order: list[OrderBy] = []
    for part in (text.strip() or "created_at desc").split(","):
        words = part.split()
        if not 1 <= len(words) <= 2 or words[0] not in SORTABLE or words[1:] not in ([], ["asc"], ["desc"]):
            raise InvalidFilterError(
                f"order_by {part.strip()[:80]!r}: expected one of {', '.join(SORTABLE)}, and `desc` behind it or not"
            )
        if words[0] in {column.field for column in order}:
            raise InvalidFilterError(f"order_by names {words[0]} twice")
        order.append(OrderBy(words[0], words[1:] == ["desc"]))
    if "id" not in {column.field for column in order}:
        # In the direction of the last column, so that an index can be walked as it is.
        order.append(OrderBy("id", order[-1].is_descending))
    return tuple(order)


def checked_page_size(size: int) -> int:
    """The size to use: 0 is the default.

    Raises:
        InvalidArgumentError: negative, or over the maximum.
    """
    if not 0 <= size <= MAX_PAGE_SIZE:
        raise InvalidArgumentError(f"page_size is {size}, and must be between 0 and {MAX_PAGE_SIZE}")
    return size or DEFAULT_PAGE_SIZE


def fitting(sizes_bytes: Iterable[int]) -> int:
    """How many of the first messages of these sizes go into one page: at least one, however large."""
    totals = accumulate(sizes_bytes)
    return max(1, sum(1 for _ in takewhile(lambda total: total <= MAX_PAGE_BYTES, totals)))


def token_of(key: Key, scope: Sequence[str]) -> str:
    """A token for the page behind ``key``, good for the list that ``scope`` describes."""
    content = msgspec.json.encode([_digest(key, scope), *key])
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def key_of(token: str, scope: Sequence[str], types: Sequence[type[str] | type[int]]) -> Key:
    """Where the page before ended.

    Raises:
        InvalidFilterError: the token is not one of ours, or belongs to another list.
    """
    try:
        if len(token) > MAX_TOKEN_LENGTH:
            raise ValueError("too long")
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, *values = msgspec.json.decode(content, type=list[str | int])
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise InvalidFilterError("page_token is not one of this service") from None
    key = tuple(values)
    if digest != _digest(key, scope) or not _is_of(key, types):
        raise InvalidFilterError("page_token belongs to a list with another filter, order or project")
    return key


def _is_of(key: Key, types: Sequence[type[str] | type[int]]) -> bool:
    return len(key) == len(types) and all(
        type(value) is wanted and (not isinstance(value, int) or abs(value) <= _MAX_INT64)
        for value, wanted in zip(key, types, strict=True)
    )


def _digest(key: Key, scope: Sequence[str]) -> str:
    return hashlib.sha256(msgspec.json.encode([*scope, "", *key])).hexdigest()[:16]
