"""What a scrub found, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tintype.cli.plain import size_text

if TYPE_CHECKING:
    from tintype.client import ScrubFinding, ScrubReport

FINDING_COLUMNS = ("Image", "Store", "Outcome", "Expected", "Found")


def scrub_row(report: ScrubReport) -> tuple[str, ...]:
    """A whole scrub in numbers."""
    healed = sum(finding.healed for finding in report.findings)
    return str(report.copies), size_text(report.done), str(len(report.findings)), str(healed)


def finding_row(finding: ScrubFinding) -> tuple[str, ...]:
    """A copy that is not sound, under :data:`FINDING_COLUMNS`."""
    if finding.healed:
        outcome = "healed"
    elif finding.failure:
        outcome = f"{finding.failure.message} [{finding.failure.reason}]"
    else:
        outcome = "damaged"
    return finding.image_id, finding.store, outcome, finding.expected, finding.found or "-"
