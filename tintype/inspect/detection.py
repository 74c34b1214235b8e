"""Which format some bytes are in, and whether that agrees with what was declared.

The rules, in full:

========================  ==================================  ======================================================
declared                  found                               verdict
========================  ==================================  ======================================================
nothing                   anything                            what was found
F                         F                                   F
raw                       iso with MBR or GPT (hybrid)        raw: it boots as a disk, and was declared one
raw                       iso without a boot sector           refused: as a disk it could not boot
raw                       nothing, MBR, GPT, a file system    raw
raw                       any other disk format               refused (CVE-2024-40767: a header that hides in "raw")
aki, ari, ami             nothing, MBR, GPT, a file system    as declared, if its parser agrees: they begin as raw
                                                              disks may, so that only a declaration tells them
any other                 anything else                       refused
anything                  a format that is never taken (QED)   refused
anything                  two headers of equal evidence       refused: no two programs would agree on what it is
========================  ==================================  ======================================================
"""

from __future__ import annotations

from collections.abc import Iterable

from tintype.domain.errors import FormatMismatchError
from tintype.domain.values import DiskFormat
from tintype.inspect.registry import Format, known_formats


def format_of_head(head: bytes) -> Format | None:
    """The format whose header stands in the head, ``None`` if there is none.

    Raises:
        FormatMismatchError: if two headers match that say equally much.
    """
    return _strongest(entry for entry in known_formats().values() if entry.in_head(head))


def format_of_tail(tail: bytes) -> Format:
    """The format whose footer stands in the tail; raw if there is none.

    Raises:
        FormatMismatchError: if two footers match.
    """
    found = _strongest(entry for entry in known_formats().values() if entry.in_tail(tail))
    return found or known_formats()[DiskFormat.RAW]


def reconcile(declared: DiskFormat | None, found: DiskFormat, head: bytes) -> DiskFormat:
    """The format to go by, after the table above.

    Raises:
        FormatMismatchError: if the bytes contradict the declaration.
    """
    if declared is None or declared is found:
        return found
    if declared is DiskFormat.RAW and found is DiskFormat.ISO and boot_record(head):
        return declared
    if found is DiskFormat.RAW and needing_declaration(declared):
        return declared
    raise FormatMismatchError(f"the image was declared as {declared}, but its bytes are {found}")


def needing_declaration(declared: DiskFormat | None) -> Format | None:
    """The declared format if nothing but the declaration tells it from a raw disk, else ``None``."""
    entry = known_formats().get(declared) if declared else None
    return entry if entry and entry.needs_declaration else None


def boot_record(head: bytes) -> str | None:
    """The partition scheme in the first sectors: ``gpt``, ``mbr`` or ``None``."""
    if head[512:520] == b"EFI PART":
        return "gpt"
    return "mbr" if head[510:512] == b"\x55\xaa" else None


def _strongest(matches: Iterable[Format]) -> Format | None:
    ranked = sorted(matches, key=lambda entry: entry.evidence, reverse=True)
    if len(ranked) > 1 and ranked[0].evidence == ranked[1].evidence:
        names = " and ".join(sorted(str(entry.disk_format) for entry in ranked[:2]))
        raise FormatMismatchError(f"the bytes are {names} at once; a file must be of one format")
    return ranked[0] if ranked else None
