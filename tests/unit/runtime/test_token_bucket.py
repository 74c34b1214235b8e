"""How fast something may go."""

from __future__ import annotations

import pytest

from tintype.runtime.token_bucket import TokenBucket


class Time:
    """Passes only while somebody sleeps, or when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.now += delay_s

    def bucket(self, rate: float) -> TokenBucket:
        return TokenBucket(rate, monotonic=self.monotonic, sleep=self.sleep)


async def test_over_a_while_the_rate_holds() -> None:
    time = Time()
    bucket = time.bucket(10)
    for _ in range(50):
        await bucket.take(7)

    assert time.now - 100 == pytest.approx((50 * 7 - 10) / 10)


async def test_a_piece_larger_than_a_second_is_waited_for_once() -> None:
    time = Time()
    bucket = time.bucket(10)
    await bucket.take(100)
    assert time.now - 100 == pytest.approx(9)
    await bucket.take(5)
    assert time.now - 100 == pytest.approx(9.5)


async def test_no_more_than_a_second_is_saved_up() -> None:
    time = Time()
    bucket = time.bucket(10)
    time.now += 1000
    before = time.now
    await bucket.take(10)
    assert time.now == before
    await bucket.take(10)
    assert time.now - before == pytest.approx(1)


async def test_no_rate_is_no_wait() -> None:
    time = Time()
    await time.bucket(0).take(10**12)
    assert time.now == 100
