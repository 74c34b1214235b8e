"""What is told of a log that was checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tintype.cli.printer import Printer

if TYPE_CHECKING:
    from tintype.client import LogCheck


def print_faults(printer: Printer, found: LogCheck) -> None:
    """Show a person where a log is not what it was."""
    if found.faults and printer.is_table:
        rows = [
            (each.image_id or "all", str(each.position), f"{each.message} [{each.reason}]") for each in found.faults
        ]
        printer.table(("Image", "Position", "Fault"), rows)
