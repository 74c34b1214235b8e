"""Tables of a disk image that were read last: bounded in bytes, shared by all threads that read the disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Table = TypeVar("Table")


class TableCache(Generic[Table]):
    """Keeps the tables that were used last; what they take together, in bytes, is bounded (but one is always kept)."""

    def __init__(self, load: Callable[[int], Table], *, table_bytes: int, max_bytes: int = 16 * 1024 * 1024) -> None:
        """``load`` reads the table of a number, and may be called by two threads at once for the same one."""
        self._load = load
        self._max_tables = max(1, max_bytes // table_bytes)
        self._tables: OrderedDict[int, Table] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int) -> Table:
        """The table of that number. What ``load`` raises is passed on, and nothing is kept."""
        with self._lock:
            table = self._tables.get(number)
            if table is not None:
                self._tables.move_to_end(number)
                return table
        table = self._load(number)
        with self._lock:
            self._tables[number] = table
            while len(self._tables) > self._max_tables:
                self._tables.popitem(last=False)
        return table
