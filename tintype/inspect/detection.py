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
raw                       a fixed VHD, by its footer          refused: its last sector is not the guest's
raw, or nothing           compressed bytes (gzip, xz, ...)    refused: they are not the disk yet
aki, ari, ami             nothing, MBR, GPT, a file system    as declared, if its parser agrees: they begin as raw
                                                              disks may, so that only a declaration tells them
any other                 anything else                       refused
anything                  QED, Bochs, cloop, DMG and others   refused: these formats are never taken
anything                  one's header and another's footer   the header's: any disk's last sector may look so
anything                  two headers of equal evidence       refused: no two programs would agree on what it is
========================  ==================================  ======================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tintype.domain.errors import FormatMismatchError
from tintype.domain.values import DiskFormat
from tintype.inspect.compression.kinds import compression_of
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
    is_both = _LEGAL_DOUBLES.get((declared, found))
    if is_both is not None and is_both(head):
        return declared
    if found is DiskFormat.RAW and needing_declaration(declared):
        return declared
    kind = compression_of(head) if found is DiskFormat.RAW else None
    its_bytes = f"compressed ({kind})" if kind else str(found)
    raise FormatMismatchError(f"the image was declared as {declared}, but its bytes are {its_bytes}")


def needing_declaration(declared: DiskFormat | None) -> Format | None:
    """The declared format if nothing but the declaration tells it from a raw disk, else ``None``."""
    entry = known_formats().get(declared) if declared else None
    return entry if entry and entry.needs_declaration else None


def boot_record(head: bytes) -> str | None:
    """The partition scheme in the first sectors: ``gpt``, ``mbr`` or ``None``."""
    if head[512:520] == b"EFI PART":
        return "gpt"
    return "mbr" if head[510:512] == b"\x55\xaa" else None


_LEGAL_DOUBLES: Mapping[tuple[DiskFormat, DiskFormat], Callable[[bytes], object]] = {
    (DiskFormat.RAW, DiskFormat.ISO): boot_record,
}
"""What may be declared although something else is found, if the head bears it out. The table above says why."""


def _strongest(matches: Iterable[Format]) -> Format | None:
    ranked = sorted(matches, key=lambda entry: entry.evidence, reverse=True)
    if len(ranked) > 1 and ranked[0].evidence == ranked[1].evidence:
        names = " and ".join(sorted(str(entry.disk_format) for entry in ranked[:2]))
        raise FormatMismatchError(f"the bytes are {names} at once; a file must be of one format")
    return ranked[0] if ranked else None
