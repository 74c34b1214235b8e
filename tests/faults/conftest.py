"""Collects what happened, and draws it into docs/reliability.md where ``--draw-faults`` says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.backends import BACKENDS
from tests.faults.fault_table import DOCUMENT, drawn
from tests.faults.faults import FAULTS

_CELLS: dict[tuple[str, str], str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--draw-faults", action="store_true", help="write the table of docs/reliability.md anew")


@pytest.fixture
def tell() -> Callable[[str, str, str], None]:
    def _tell(fault: str, store: str, happened: str) -> None:
        _CELLS[fault, store] = happened

    return _tell


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--draw-faults", default=False) and exitstatus == 0:
        text = DOCUMENT.read_text()
        DOCUMENT.write_text(drawn(text, list(FAULTS), [name for name, _, _ in BACKENDS], _CELLS))
