"""The table fault × store of docs/reliability.md, which the fault suite draws: `make faults`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
_PART = re.compile(r"(<!-- measured: faults -->\n).*?(<!-- end -->)", re.DOTALL)


def drawn(text: str, faults: Sequence[str], stores: Sequence[str], cells: Mapping[tuple[str, str], str]) -> str:
    """The document's text with what happened in its table; a cell that was not measured now stays as it is."""
    known = {**read_cells(text), **cells}
    rows = [["fault", *stores], ["---"] * (len(stores) + 1)]
    rows += [[fault, *(known.get((fault, store), "not measured") for store in stores)] for fault in faults]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return _PART.sub(lambda part: f"{part[1]}{table}\n{part[2]}", text)


def read_cells(text: str) -> dict[tuple[str, str], str]:
    """What the table has, by fault and store."""
    part = _PART.search(text)
    lines = part[0].splitlines()[1:-1] if part else []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    stores = rows[0][1:] if rows else []
    return {(row[0], store): cell for row in rows[2:] for store, cell in zip(stores, row[1:], strict=True)}
