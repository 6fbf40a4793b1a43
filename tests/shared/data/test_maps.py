"""Instance ids are numbered from 0, whatever they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.data.maps import dense_type, densify

SEEDS = st.integers(0, 2**32 - 1)


def is_densified(instances: np.ndarray) -> None:
    ids, positions = densify(instances)
    wanted, inverse = np.unique(instances, return_inverse=True)
    assert ids.dtype == np.int32 and np.array_equal(ids, wanted)
    assert positions.dtype == dense_type(len(wanted)) and positions.shape == instances.shape
    assert np.array_equal(positions, inverse.reshape(instances.shape))


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32]),
    pool=st.integers(1, 500),
    near=st.booleans(),
)
def test_densify_equals_unique(seed, dtype, pool, near):
    """Ids of the whole range of each type that read_ids gives, close together or far apart."""
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    low = rng.integers(limits.min, limits.max, endpoint=True) if near else limits.min
    high = min(low + 1000, limits.max) if near else limits.max
    values = rng.integers(low, high, pool, dtype, endpoint=True)
    is_densified(rng.choice(values, (13, 17)))


@pytest.mark.parametrize(
    "values",
    [
        [-(2**31), 2**31 - 1],
        [-(2**31), -(2**31) + 1],
        [2**31 - 2, 2**31 - 1],
        [-5, 0, 5],
        [0, 2**20 - 1],
        [0, 2**20],  # one more than the table of `densify` has
        [-7],
    ],
)
def test_densify_at_the_ends_of_32_bits(values):
    is_densified(np.resize(np.array(values, np.int32), (3, 5)))


def test_densify_of_16_bit_ids_above_32767():
    is_densified(np.array([[32767, 32768], [65535, 33001]], np.uint16))
    is_densified(np.arange(2**16, dtype=np.uint16).reshape(256, 256))
