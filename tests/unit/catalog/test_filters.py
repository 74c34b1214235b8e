"""The filter language: what it reads, and how it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.filters import MAX_FILTER_LENGTH, MAX_TERMS, Term, parsed
from tintype.domain.errors import InvalidFilterError


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("   ", ()),
        ("name=debian", (Term("name", "=", "debian"),)),
        (' name="Debian 13"  AND  status!=active ', (Term("name", "=", "Debian 13"), Term("status", "!=", "active"))),
        (r'name="a \"b\" \\ AND c"', (Term("name", "=", 'a "b" \\ AND c'),)),
        ('name=""', (Term("name", "=", ""),)),
        ("name=a=b", (Term("name", "=", "a=b"),)),
        ("size>=1024", (Term("size", ">=", 1024),)),
        ("min_disk<-1", (Term("min_disk", "<", -1),)),
        ("hidden=TRUE", (Term("hidden", "=", True),)),
        ("created_at>1970-01-01T00:00:01Z", (Term("created_at", ">", 1_000_000),)),
        ("updated_at<=1970-01-02", (Term("updated_at", "<=", 86_400_000_000),)),
        ("id=AB", (Term("id", "=", "ab"),)),
        ("properties.os_distro=debian", (Term("properties", "=", "debian", "os_distro"),)),
        ('properties."a key"!="x y"', (Term("properties", "!=", "x y", "a key"),)),
        ("properties.hw_qemu_guest_agent=Yes", (Term("properties", "=", "true", "hw_qemu_guest_agent"),)),
        ("properties.hw_cpu_cores=04", (Term("properties", "=", "4", "hw_cpu_cores"),)),
    ],
)
def test_terms_are_read(text: str, terms: tuple[Term, ...]) -> None:
    assert parsed(text) == terms


@pytest.mark.parametrize(
    ("text", "character"),
    [
        ("=x", 1),
        ("nonsense=x", 1),
        ("name", 5),
        ("name=", 6),
        ("name~x", 5),
        ("name<x", 5),
        ("name=x name=y", 7),
        ("name=x AND ", 7),
        ("name=x OR name=y", 7),
        ('name="open', 6),
        ('name="bad \\n escape"', 6),
        ("status=sleeping", 8),
        ("size=big", 6),
        ("size=9223372036854775808", 6),
        ("size=1e400", 6),
        ("hidden=perhaps", 8),
        ("created_at>yesterday", 12),
        ("created_at>9999-99-99", 12),
        ("properties=x", 1),
        ("properties.=x", 12),
        ("properties.hw_cpu_cores=many", 25),
        (f"properties.{'k' * 256}=x", 12),
        ("name=a\x00b", 7),
        ("name=x;DROP TABLE images", 12),
        ("name=x AND (name=y)", 12),
    ],
)
def test_a_malformed_filter_is_refused_with_its_place(text: str, character: int) -> None:
    with pytest.raises(InvalidFilterError, match=rf"^filter, character {character}: "):
        parsed(text)


def test_a_filter_is_bounded() -> None:
    with pytest.raises(InvalidFilterError, match="at most 4096"):
        parsed("n" * (MAX_FILTER_LENGTH + 1))
    assert len(parsed(" AND ".join(["tag=x"] * MAX_TERMS))) == MAX_TERMS
    with pytest.raises(InvalidFilterError, match="more than 32 terms"):
        parsed(" AND ".join(["tag=x"] * (MAX_TERMS + 1)))


@given(st.text(max_size=200) | st.from_regex(r'(name|tag|size)(=|!=|<)"?[a-z\\" ]*"?( AND )?', fullmatch=True))
def test_every_text_is_read_or_refused(text: str) -> None:
    try:
        terms = parsed(text)
    except InvalidFilterError:
        return
    assert len(terms) <= MAX_TERMS


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=50))
def test_any_printable_text_can_be_asked_for_in_quotes(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert parsed(f'name="{quoted}"') == (Term("name", "=", text),)
