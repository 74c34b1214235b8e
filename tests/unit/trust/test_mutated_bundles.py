"""Whatever is changed in a bundle: it proves the same as before, or it is refused with one of our reasons."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trust.roads import NOW, RoadCase, trusting
from tests.unit.trust.test_custody import ORIGIN
from tintype.domain.errors import BundleInvalidError, RefusedContentError
from tintype.trust.bundle import read_bundle, write_bundle
from tintype.trust.custody import Custody, CustodyRules, verify_custody

WHOLE = write_bundle(RoadCase(origin=ORIGIN).provenance())
PROVEN = verify_custody(read_bundle(WHOLE), trusting(), NOW)


def verified(content: bytes) -> Custody | None:
    """What is proven; ``None`` where it is refused, and no other error may be."""
    try:
        return verify_custody(read_bundle(content), trusting(), NOW, CustodyRules(allow_unsigned=True))
    except RefusedContentError:
        return None


@pytest.mark.parametrize("seed", range(400))
def test_changed_bytes_prove_the_same_or_nothing(seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(WHOLE)
    for _ in range(chance.choice((1, 1, 2, 8))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    assert verified(bytes(content)) in (None, PROVEN)


@pytest.mark.parametrize("seed", range(300))
def test_changed_certificates_and_envelopes_prove_the_same_or_nothing(seed: int) -> None:
    """Behind the base64, where most changes would be no base64 any more."""
    chance = random.Random(seed)
    bundle = json.loads(WHOLE)

    def changed(text: str) -> str:
        content = bytearray(base64.b64decode(text))
        for _ in range(chance.choice((1, 1, 3))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return base64.b64encode(content).decode()

    match chance.randrange(4):
        case 0:
            index = chance.randrange(len(bundle["certificates"]))
            bundle["certificates"][index] = changed(bundle["certificates"][index])
        case 1:
            bundle["attestation"]["payload"] = changed(bundle["attestation"]["payload"])
        case 2:
            signature = bundle["attestation"]["signatures"][0]
            signature["sig"] = changed(signature["sig"])
        case _:
            properties = bundle["signature_properties"]
            properties["img_signature"] = changed(properties["img_signature"])
    assert verified(json.dumps(bundle).encode()) in (None, PROVEN)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.data())
def test_a_field_with_anything_in_it_proves_the_same_or_nothing(data: st.DataObject) -> None:
    bundle = json.loads(WHOLE)
    place, name = bundle, data.draw(st.sampled_from(sorted(bundle)))
    while isinstance(place[name], dict) and place[name] and data.draw(st.booleans()):
        place = place[name]
        name = data.draw(st.sampled_from(sorted(place)))
    place[name] = data.draw(JSON)
    assert verified(json.dumps(bundle).encode()) in (None, PROVEN)


@given(content=st.binary(max_size=200))
def test_bytes_that_are_no_bundle_are_refused(content: bytes) -> None:
    with pytest.raises(BundleInvalidError):
        read_bundle(content)
