"""``tintype inspect``: what a local file is, offline, without any service.

What is looked at, and in which order, is the matter of :mod:`tintype.cli.inspect_report`.
"""

from __future__ import annotations

import os
import stat
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.arguments import MAX_INT64
from tintype.cli.exit_codes import REFUSALS, ExitCode, exit_code_list
from tintype.cli.printer import OutputFormat, Printer
from tintype.cli.session import GlobalOptions, ended
from tintype.domain.errors import StoreUnavailableError
from tintype.domain.values import DiskFormat

if TYPE_CHECKING:
    from tintype.cli.inspect_report import Report

EPILOG = exit_code_list(dict.fromkeys((ExitCode.OK, ExitCode.REFUSED, ExitCode.USAGE, *REFUSALS.values())))

_NEEDED = ("cryptography", "defusedxml", "isal", "oslo_utils", "zstandard")
"""Packages that the extra ``inspect`` brings, by the names they are imported by."""


def inspect(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The image; a block device will do.")],
    declared: Annotated[
        DiskFormat | None,
        typer.Option(
            "--format",
            help="The format that it should be of; another is refused. Kernels, ramdisks and machine images are looked "
            "for only where aki, ari or ami is given.",
            case_sensitive=False,
        ),
    ] = None,
    guest_digest: Annotated[
        bool,
        typer.Option("--guest-digest", help="Read the guest's disk, and tell its digest: the same in every format."),
    ] = False,
    contents: Annotated[
        bool,
        typer.Option("--contents/--no-contents", help="Look for partitions, file systems and the operating system."),
    ] = True,
    max_virtual_size: Annotated[
        int | None,
        typer.Option(metavar="BYTES", min=0, max=MAX_INT64, help="Refuse a larger guest's disk, as a site may."),
    ] = None,
    max_allocation_ratio: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=MAX_INT64,
            help="Refuse a guest's disk over 1 TiB and N times its file, as a site may.",
        ),
    ] = None,
    output: Annotated[OutputFormat | None, typer.Option("--output", "-o", help="How to print answers.")] = None,
) -> None:
    """Tell what an image is, whether it is safe, and what it says about itself: offline, without any service.

    Exit code 0 is safe; each class of refusal has one of its own.
    """
    first: GlobalOptions = ctx.find_root().obj or GlobalOptions()
    printer = Printer(output or first.output)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        hint = "Install what reads disk images: pip install 'tintype[inspect]'"
        printer.failure(f"{', '.join(missing)} is not installed", "INSPECT_MISSING", hint, retryable=False)
        raise typer.Exit(ExitCode.REFUSED)
    from tintype.cli.inspect_report import Limits, inspected

    def work() -> int:
        try:
            report = inspected(
                _readable(file),
                declared,
                limits=Limits(max_virtual_size, max_allocation_ratio),
                wants_digest=guest_digest,
                wants_contents=contents,
                note=printer.note,
            )
        except StoreUnavailableError as exc:
            raise OSError(None, exc.message) from exc
        _print(printer, report)
        if printer.is_table and declared is None and report.is_anything:
            printer.note("note: a kernel or ramdisk looks like this too: see with --format aki, or --format ari")
        return report.exit_code

    raise typer.Exit(ended(printer, work))


def _readable(file: Path) -> Path:
    """The file itself, behind links.

    Raises:
        OSError: it is not there, or nothing that has its bytes at hand.
    """
    path = Path(os.path.realpath(file, strict=True))  # pathlib's resolve would raise RuntimeError for links in a circle
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise OSError(None, "neither a file nor a block device", str(file))
    return path


def _print(printer: Printer, report: Report) -> None:
    if printer.is_table:
        printer.table(("Field", "Value"), report.rows())
        if rows := report.fact_rows():
            printer.table(("Fact", "Value", "Read from"), rows)
    else:
        printer.one(report.fields())
