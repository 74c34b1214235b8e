"""Whatever is changed in a certificate, a list or a signature: what comes out is a verdict, or one of our refusals."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.trust import targets

TARGETS = targets()
SEEDS = {name: tuple(target.seeds()) for name, target in TARGETS.items()}

# `cryptography` warns of some certificates that it will refuse one day.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def mutated(seed: bytes, changes: list[tuple[int, int, int]]) -> bytes:
    """The seed with bytes replaced, inserted or taken out."""
    content = bytearray(seed)
    for kind, place, value in changes:
        position = place % (len(content) + 1)
        if kind == 0 and position < len(content):
            content[position] = value
        elif kind == 1:
            content.insert(position, value)
        else:
            del content[position : position + 1 + value % 8]
    return bytes(content)


CHANGES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4096), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=100)
@given(number=st.integers(0, 63), changes=CHANGES)
def test_nothing_but_our_refusals_comes_out(name: str, number: int, changes: list[tuple[int, int, int]]) -> None:
    seeds = SEEDS[name]
    TARGETS[name].run(mutated(seeds[number % len(seeds)], changes))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_our_refusals_comes_out_of_every_byte_flipped(name: str) -> None:
    chosen = random.Random(1)  # the same in every run
    for seed in SEEDS[name]:
        for position in chosen.sample(range(len(seed)), min(40, len(seed))):
            content = bytearray(seed)
            content[position] ^= 1 << chosen.randrange(8)
            TARGETS[name].run(bytes(content))
