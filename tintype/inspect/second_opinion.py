"""What another program takes some bytes for: oslo.utils' format inspectors, which the field's services go by.

A file that two programs take for different formats is how one of them is led past the other's checks. So both are
asked, and a disagreement is a refusal that names both. Only the question "which formats match?" is put to the second:
its inspectors get the head, once, which costs the same for every image. Its safety checks and sizes are not used,
since the modules in ``formats/`` know more: extended L2 entries, fixed VHD, LUKS2.

Which of its answers agree with which of ours is the one table :data:`AGREEING`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Protocol

from tintype.domain.errors import FormatMismatchError
from tintype.domain.values import DiskFormat

FIRST = "tintype"
SECOND = "oslo.utils"

NONE = "none"
"""The answer where the second program stumbled over the bytes. It vouches for nothing then, as with ``raw``."""

_PLAIN = frozenset({"raw", NONE})
_BOOT_RECORD = _PLAIN | {"gpt"}
_DISK = _BOOT_RECORD | {"luks", "gpt+luks"}


def _header(name: str) -> frozenset[str]:
    """A format with a header of its own; its data may put a volume descriptor where an ISO has one (sector 16)."""
    return frozenset({name, "+".join(sorted((name, "iso")))})


AGREEING: Mapping[DiskFormat, frozenset[str]] = {
    DiskFormat.QCOW2: _header("qcow2"),
    DiskFormat.VMDK: _header("vmdk"),
    DiskFormat.VDI: _header("vdi"),
    DiskFormat.VHDX: _header("vhdx"),
    # A fixed VHD is told by its footer alone, which the second program does not look at: to it this is the bare disk.
    DiskFormat.VHD: _header("vhd") | _DISK,
    # A hybrid ISO has a boot record as well. gpt is its word for any boot record, MBR or GPT.
    DiskFormat.ISO: frozenset({"iso", "gpt+iso"}),
    # Byte 510 of a LUKS1 header is inside a random salt, which may end as a boot record does.
    DiskFormat.RAW: _DISK,
    DiskFormat.AMI: _DISK,
    # It does not know these. An x86 kernel begins with a boot record; a compressed one, or a ramdisk, may have
    # that signature by chance.
    DiskFormat.AKI: _BOOT_RECORD,
    DiskFormat.ARI: _BOOT_RECORD,
    DiskFormat.PLOOP: _BOOT_RECORD,
    DiskFormat.OVA: _PLAIN,
    DiskFormat.DOCKER: _PLAIN,
}
"""The second program's answers that agree with each format that was found: in its own words, joined by ``+``."""


class _Inspector(Protocol):
    def eat_chunk(self, chunk: bytes) -> None: ...

    @property
    def format_match(self) -> bool: ...


def require_second_opinion() -> None:
    """Load the second program, so that where it is missing no image is blamed.

    Raises:
        ImportError: it is not installed.
    """
    _inspectors()


def second_opinion(head: bytes) -> str:
    """The formats that oslo.utils finds in ``head``, sorted and joined by ``+``; ``raw`` or :data:`NONE` if none."""
    matches, has_stumbled = [], False
    for name, inspector in _inspectors().items():
        try:
            if _matches(inspector(), head):
                matches.append(name)
        except Exception:  # whatever it is: these bytes are no evidence of that format, and must not stop an inspection
            has_stumbled = True
    return "+".join(sorted(matches)) or (NONE if has_stumbled else "raw")


def require_agreement(found: DiskFormat, opinion: str) -> None:
    """Check what was found against the second opinion.

    Raises:
        FormatMismatchError: they disagree; it names both.
    """
    if opinion not in AGREEING[found]:
        raise FormatMismatchError(
            f"two opinions on what the bytes are disagree: {FIRST} says {found}, {SECOND} says {opinion}"
        )


def _matches(inspector: _Inspector, head: bytes) -> bool:
    try:
        inspector.eat_chunk(head)
    except Exception as exc:
        # Most inspectors raise to say "not mine"; but a magic that stands before broken tables is a match all the same.
        logging.getLogger(__name__).debug("%s", exc)
    return inspector.format_match


@cache
def _inspectors() -> Mapping[str, type[_Inspector]]:
    """Its inspectors but that of ``raw``, which matches everything. Imported late: it takes longer than all of ours."""
    from oslo_utils.imageutils import format_inspector

    logger = logging.getLogger(format_inspector.__name__)
    logger.addHandler(logging.NullHandler())  # what it logs of hostile bytes is told by our refusals
    logger.propagate = False
    known: Iterable[tuple[str, type[_Inspector]]] = format_inspector.ALL_FORMATS.items()
    return {name: inspector for name, inspector in known if name != "raw"}
