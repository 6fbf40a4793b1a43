"""The mean of features over a region is exact."""

import numpy as np
import pytest
import torch

from shared.networks.regions import pool


def test_the_mean_of_half_a_million_equal_pixels_is_their_value():
    """A float32 sum of them is off by 0.5%."""
    encoded = torch.full((1, 1, 512, 1024), 0.3)
    assert pool(encoded, np.zeros((1, 512, 1024), np.uint8), 1).item() == pytest.approx(
        0.3, rel=1e-6
    )
