"""Intervals hold what they promise: by tables, by counting, by algebra."""

import math

import numpy as np
import pytest

from components.benchmark import intervals


def test_of_the_median_is_that_of_the_tables():
    """Ten values at 95 %: the second and the ninth, which miss the median with 2 * 11 / 1024."""
    values = [7, 1, 9, 3, 5, 2, 10, 4, 6, 8]
    assert intervals.of_median(values, 0.95) == (2, 9)
    assert intervals.of_median(values, 1 - 2 * 11 / 1024) == (2, 9)
    assert intervals.of_median(values, 1 - 2 * 10.9 / 1024) == (1, 10)


@pytest.mark.parametrize(("n", "confidence"), [(18, 0.99), (90, 0.9875), (7, 0.9)])
def test_of_the_median_is_the_narrowest_that_holds(n, confidence):
    """By counting all falls of n coins: k of them lie below the median."""

    def misses(k: int) -> float:
        """Probability that fewer than k of the values are on one side."""
        return 2 * sum(math.comb(n, heads) for heads in range(k)) / 2**n

    low, high = intervals.of_median(range(n), confidence)
    assert low + high == n - 1
    assert misses(low + 1) <= 1 - confidence < misses(low + 2)


def test_of_the_median_needs_enough_values():
    with pytest.raises(ValueError, match="5 values"):
        intervals.of_median(range(5), 0.95)
    assert intervals.of_median(range(6), 0.95) == (0, 5)  # 2 / 64


def test_of_the_mean_is_students():
    """t of four degrees is 2.7764 at 95 %; the standard error of 1 .. 5 is sqrt(2.5 / 5)."""
    low, high = intervals.of_mean([1, 2, 3, 4, 5], 0.95)
    assert (low, high) == pytest.approx((3 - 2.7764 * 0.70711, 3 + 2.7764 * 0.70711), abs=1e-4)
    assert intervals.of_mean([0.0, 0.0], 0.99) == (0, 0)


def test_the_jackknife_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(3, 1, 10)
    without = [np.delete(values, i).mean() for i in range(10)]
    found = intervals.of_jackknife(values.mean(), without, 0.95)
    assert found == pytest.approx(intervals.of_mean(values, 0.95))


def test_the_jackknife_of_groups_covers():
    """A variance of normal numbers, which is no mean, lies inside in nine of ten cases."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        values = rng.normal(0, 1, 200)
        without = [np.delete(values, slice(group, None, 10)).var(ddof=1) for group in range(10)]
        low, high = intervals.of_jackknife(values.var(ddof=1), without, 0.9)
        hits += low <= 1 <= high
    assert 860 <= hits <= 940
