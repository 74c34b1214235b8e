"""Stores, what is found in them, and what was swept, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tintype.cli.plain import is_empty, plain, size_text, sized_cell

if TYPE_CHECKING:
    from tintype.client import Store, StoreFinding, SweepFinding, SweepReport

STORE_COLUMNS = ("Name", "Kind", "Default", "Weight", "Mode", "Free", "Total", "Description")
FINDING_COLUMNS = ("Check", "Grade", "Found", "Advice")
SWEEP_COLUMNS = ("Store", "Kind", "Outcome", "Size", "Image", "Key")

_SIZES = ("free_bytes", "total_bytes")


def store_row(store: Store) -> tuple[str, ...]:
    """A store in a list, under :data:`STORE_COLUMNS`; the mode with its reason."""
    mode = f"{store.mode} [{store.failure.reason}]" if store.failure else str(store.mode)
    is_default = "yes" if store.is_default else ""
    room = [_size(store.free_bytes), _size(store.total_bytes)]
    return store.name, store.kind, is_default, str(store.weight), mode, *room, store.description


def store_fields(store: Store) -> list[tuple[str, str]]:
    """The rows of a table: each field that has a value."""
    data = plain(store)
    rows: list[tuple[str, str]] = []
    for name, value in data.items() if isinstance(data, dict) else ():
        if not is_empty(value):
            rows.append((name, sized_cell("size" if name in _SIZES else name, value)))
    if store.failure and store.failure.hint:
        rows.append(("hint", store.failure.hint))
    return rows


def finding_row(finding: StoreFinding) -> tuple[str, ...]:
    """What an examination found, under :data:`FINDING_COLUMNS`."""
    return finding.name, finding.grade, finding.found, finding.advice


def sweep_row(report: SweepReport) -> tuple[str, ...]:
    """A whole sweep in numbers."""
    removed = sum(finding.removed for finding in report.findings)
    return str(report.blobs), str(len(report.findings)), str(removed), size_text(report.removed_bytes)


def swept_row(finding: SweepFinding, *, dry_run: bool) -> tuple[str, ...]:
    """What a sweep found, under :data:`SWEEP_COLUMNS`."""
    size = "" if finding.kind is None else size_text(finding.size)
    return finding.store, str(finding.kind or ""), _outcome(finding, dry_run), size, finding.image_id, finding.key


def _outcome(finding: SweepFinding, dry_run: bool) -> str:
    if finding.failure:
        return f"{finding.failure.message} [{finding.failure.reason}]"
    if finding.removed:
        return "removed"
    is_rubbish = finding.kind in ("unwanted", "orphan")
    return "would be removed" if is_rubbish and dry_run else "left"


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else size_text(size_bytes)
