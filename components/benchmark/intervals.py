"""Confidence intervals of a change between two models that were measured side by side."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

Interval = tuple[float, float]  # (low, high)


def of_median(values: Sequence[float], confidence: float) -> Interval:
    """Two order statistics that enclose the median, whatever the distribution is: a call that a
    busy machine held up for long moves neither.

    A value lies below the median as a coin falls: the k-th from below lies above it with the
    probability of fewer than k heads. Raises ValueError for too few values."""
    ordered, n = sorted(values), len(values)
    tail, k = 0.0, 0  # probability of fewer than k heads
    while (more := tail + math.comb(n, k) / 2**n) <= (1 - confidence) / 2:
        tail, k = more, k + 1
    if not k:
        raise ValueError(f"{n} values have no interval of confidence {confidence:g}")
    return ordered[k - 1], ordered[n - k]


def of_mean(values: Sequence[float], confidence: float) -> Interval:
    """Student's interval of the mean of two values or more, such as of differences by pair."""
    mean, n = float(np.mean(values)), len(values)
    half = _quantile(n - 1, confidence) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def of_jackknife(value: float, without: Sequence[float], confidence: float) -> Interval:
    """The interval of what is no mean over pairs, such as FID (Quenouille's and Tukey's jackknife).

    without: the value with each of two or more equal groups of the pairs left out."""
    groups = len(without)
    error = math.sqrt((groups - 1) / groups * np.sum((without - np.mean(without)) ** 2))
    half = _quantile(groups - 1, confidence) * error
    return value - half, value + half


def _quantile(degrees: int, confidence: float) -> float:
    """Half the width, in standard errors, of Student's interval."""
    return float(stdtrit(degrees, (1 + confidence) / 2))
