"""The comparison behind ``make check-protos``: nothing that differs goes unnamed."""

from __future__ import annotations

from tools.generate_protos import differing_files


def test_equal_trees_do_not_differ() -> None:
    assert differing_files({"a.py": b"1"}, {"a.py": b"1"}) == []


def test_an_edited_a_missing_and_a_left_over_file_are_named() -> None:
    committed = {"edited.py": b"1", "left_over.py": b"1", "same.py": b"1"}
    generated = {"edited.py": b"2", "missing.py": b"1", "same.py": b"1"}
    assert differing_files(committed, generated) == ["edited.py", "left_over.py", "missing.py"]
