"""From the words of a caller to the fields of the API's image, for creation and update alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from tintype.api.types.v1 import types_pb2
from tintype.client.errors import InvalidRequestError
from tintype.codec import values
from tintype.domain.errors import PublisherKeyError
from tintype.domain.events import ImportMethod, SignedChecksums
from tintype.domain.openpgp import publisher_certificates
from tintype.domain.values import ContainerFormat, DiskFormat, Placement, Visibility

E = TypeVar("E", bound=StrEnum)


def encode_given(given: Mapping[str, object]) -> dict[str, object]:
    """The fields of ``catalog.v1.Image`` that are given: those that are ``None`` are left out.

    Raises:
        InvalidRequestError: a word that is none of its kind.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    if "visibility" in fields:
        fields["visibility"] = values.VISIBILITY.encode(word(Visibility, "visibility", fields["visibility"]))
    if "disk_format" in fields:
        fields["disk_format"] = values.DISK_FORMAT.encode(word(DiskFormat, "disk format", fields["disk_format"]))
    if "container_format" in fields:
        chosen = word(ContainerFormat, "container format", fields["container_format"])
        fields["container_format"] = values.CONTAINER_FORMAT.encode(chosen)
    return fields


def import_method(method: ImportMethod | str | None, uri: str) -> ImportMethod:
    """The method that is named, or else the one that goes with having a ``uri``, or none.

    Raises:
        InvalidRequestError: it is no method.
    """
    if method is None:
        return ImportMethod.WEB_DOWNLOAD if uri else ImportMethod.GLANCE_DIRECT
    return word(ImportMethod, "import method", method)


def encode_checksums(checksums: SignedChecksums | None) -> types_pb2.SignedChecksums | None:
    """A publisher's signed list; a secret key is found before it leaves this machine.

    Raises:
        InvalidRequestError: reason ``PUBLISHER_KEY``: the publisher's key is none, or a secret one.
    """
    if checksums is not None:
        try:
            publisher_certificates(checksums.publisher_key)
        except PublisherKeyError as exc:
            raise InvalidRequestError(exc.message, reason=exc.reason, hint=exc.hint) from None
    return values.encode_checksums(checksums)


def encode_placement(stores: Iterable[str], *, all_stores: bool, all_must_succeed: bool) -> types_pb2.Placement | None:
    """Which stores the bytes shall be in; ``None`` where nothing is said, which is the deployment's default store.

    Raises:
        InvalidRequestError: ``stores`` is one name, and no collection of names.
    """
    if isinstance(stores, str):
        raise InvalidRequestError("stores are a list of names", hint=f"Write stores=[{stores[:80]!r}].")
    return values.encode_placement(Placement(tuple(stores), all_stores, all_must_succeed))


def word(kind: type[E], what: str, value: object) -> E:
    """``value`` as a member of ``kind``.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        return kind(str(value))
    except ValueError:
        known = ", ".join(kind)
        raise InvalidRequestError(
            f"{str(value)[:80]!r} is not a {what}",
            reason="INVALID_FORMAT" if "format" in what else None,
            hint=f"Use one of {known}.",
        ) from None
