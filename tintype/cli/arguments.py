"""Arguments and options that several commands have, and how what a person types is read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from tintype.domain.attributes import MAX_MIN_DISK_GIB, MAX_MIN_RAM_MIB
from tintype.domain.errors import InvalidDigestError
from tintype.domain.values import ContainerFormat, Digest, DiskFormat, Visibility

MAX_INT64 = 2**63 - 1
"""The largest size, offset or position that a message can carry."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_DIGITS = 9


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time; without a zone it is local time."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not a time: write it as 2026-01-31T12:00:00Z") from None


def parse_duration_s(text: str) -> int:
    """Read a time in seconds, or with one of the units s, m, h, d; in seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS_S else (text, "s")
    is_number = number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS
    if not is_number or int(number) == 0:
        raise typer.BadParameter(f"{text!r} is not a time: write it as 900, 15m, 1h or 2d")
    return int(number) * _UNITS_S[unit]


def _require_digest(text: str) -> str:
    """Refuse what is no digest before an image is made for the bytes."""
    try:
        return str(Digest.parse(text)) if text else ""
    except InvalidDigestError as exc:
        raise typer.BadParameter(exc.message) from exc


def parse_pairs(pairs: Sequence[str], option: str = "--property") -> dict[str, str]:
    """Read ``KEY=VALUE`` pairs.

    Raises:
        BadParameter: one has no ``=``, or no key.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{option} {pair!r} is not KEY=VALUE")
        found[key] = value
    return found


ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="The image's id, or its name if no other has it.")]
OperationArgument = Annotated[str, typer.Argument(metavar="OPERATION", help="The operation's id.")]
IdOption = Annotated[str, typer.Option("--id", help="A UUID of your choice for the new image.")]
NameOption = Annotated[str | None, typer.Option("--name", help="The image's name.")]
DiskFormatOption = Annotated[
    DiskFormat | None,
    typer.Option("--disk-format", help="The format of the bytes, as `tintype inspect` tells it.", case_sensitive=False),
]
ContainerFormatOption = Annotated[
    ContainerFormat | None,
    typer.Option(
        "--container-format",
        help="bare for a plain disk or ISO; ova, docker, aki, ari, ami, or compressed.",
        case_sensitive=False,
    ),
]
VisibilityOption = Annotated[
    Visibility | None, typer.Option("--visibility", help="Who else may see it.", case_sensitive=False)
]
MinDiskOption = Annotated[
    int | None,
    typer.Option("--min-disk", min=0, max=MAX_MIN_DISK_GIB, help="The least disk it boots on, in GiB."),
]
MinRamOption = Annotated[
    int | None,
    typer.Option("--min-ram", min=0, max=MAX_MIN_RAM_MIB, help="The least memory it boots with, in MiB."),
]
ProtectedOption = Annotated[bool | None, typer.Option("--protected/--unprotected", help="Whether it can be deleted.")]
HiddenOption = Annotated[bool | None, typer.Option("--hidden/--no-hidden", help="Whether lists leave it out.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; may be repeated.")]
PropertyOption = Annotated[
    list[str] | None, typer.Option("--property", metavar="KEY=VALUE", help="A property; may be repeated.")
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="KEY=VALUE",
        help="For administrators: it wins over the owner's property and over what was read; may be repeated.",
    ),
]
ClearOverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "--clear-override",
        metavar="KEY",
        help="For administrators: what it stood in for counts again; may be repeated.",
    ),
]
AsOfOption = Annotated[
    datetime | None, typer.Option("--as-of", metavar="TIME", parser=parse_time, help="As it was then, in RFC 3339.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Follow the operation until it is done.")]
ExpectedSizeOption = Annotated[
    int | None, typer.Option("--expected-size", min=0, max=MAX_INT64, help="Refuse any other number of bytes.")
]
AfterOption = Annotated[
    int | None,
    typer.Option("--after", min=0, max=MAX_INT64, help="Begin behind this log position; 0 is the beginning."),
]
ExpectedDigestOption = Annotated[
    str,
    typer.Option(
        "--expected-digest", metavar="ALGORITHM:HEX", help="Refuse any other bytes.", callback=_require_digest
    ),
]
