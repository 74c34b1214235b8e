"""The table of docs/reliability.md."""

from __future__ import annotations

from itertools import product

from tests.faults.backends import BACKENDS
from tests.faults.fault_table import DOCUMENT, read_cells
from tests.faults.faults import FAULTS


def test_every_fault_was_tried_on_every_store() -> None:
    cells = read_cells(DOCUMENT.read_text())
    assert set(cells) == set(product(FAULTS, [name for name, _, _ in BACKENDS])), "run `make faults`"
    assert [where for where, happened in cells.items() if happened in ("", "not measured")] == []
