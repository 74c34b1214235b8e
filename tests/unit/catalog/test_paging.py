"""Orders and page tokens."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.paging import Key, OrderBy, checked_page_size, key_of, parsed_order, token_of
from tintype.domain.errors import InvalidArgumentError, InvalidFilterError

SCOPE = ("images", "red", "name=x", "created_at desc")


def test_an_order_is_made_total_by_the_id() -> None:
    assert parsed_order("") == (OrderBy("created_at", True), OrderBy("id", True))
    assert parsed_order("name, size desc") == (OrderBy("name", False), OrderBy("size", True), OrderBy("id", True))
    assert parsed_order("id desc") == (OrderBy("id", True),)


@pytest.mark.parametrize("text", ["state", "name sideways", "name desc asc", "name,", "name,name", "1;--", "n" * 300])
def test_a_malformed_order_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilterError, match="order_by"):
        parsed_order(text)


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
def test_a_page_has_a_size(size: int) -> None:
    assert checked_page_size(0) == 100
    assert checked_page_size(1000) == 1000
    with pytest.raises(InvalidArgumentError):
        checked_page_size(size)


@given(st.tuples(st.text(st.characters(codec="utf-8"), max_size=255), st.integers(0, 2**63 - 1)))
def test_a_token_leads_back_to_its_key(key: Key) -> None:
    assert key_of(token_of(key, SCOPE), SCOPE, [str, int]) == key


@pytest.mark.parametrize("position", range(4))
def test_a_token_is_good_for_its_own_list_only(position: int) -> None:
    token = token_of(("debian", 7), SCOPE)
    scope = tuple("other" if index == position else part for index, part in enumerate(SCOPE))
    with pytest.raises(InvalidFilterError, match="another filter, order or project"):
        key_of(token, scope, [str, int])


def test_a_tampered_token_is_refused() -> None:
    token = token_of(("debian", 7), SCOPE)
    digest, *_ = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    forged = base64.urlsafe_b64encode(msgspec.json.encode([digest, "arch", 7])).decode()
    for bad in (token[:-3], token[4:], forged, "=", "!!!", "bm90IGpzb24", "W10", "e30", "[" * 4000, "x" * 5000, "é"):
        with pytest.raises(InvalidFilterError, match="page_token"):
            key_of(bad, SCOPE, [str, int])


@pytest.mark.parametrize("key", [("debian",), (7, 7), ("debian", "7"), ("debian", 2**63), ("debian", 7, 7)])
def test_a_token_with_a_right_digest_and_wrong_content_is_refused(key: Key) -> None:
    with pytest.raises(InvalidFilterError, match="page_token"):
        key_of(token_of(key, SCOPE), SCOPE, [str, int])
