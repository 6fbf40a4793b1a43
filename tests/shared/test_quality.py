"""Figures of pictures whose values can be derived, distances of sets of features by other formulas,
and their table."""

import re

import numpy as np
import pytest
from scipy.linalg import sqrtm

from shared import quality
from shared.contracts.measured import Quality
from shared.quality import METRICS, frechet_distance, kernel_distance, l1, psnr_db, ssim
from tests.measuring import plain
from tests.places import ROOT

# Pairs of pictures.


def test_quality_of_identical_pictures():
    photo = np.random.default_rng(0).integers(0, 256, (3, 16, 24), dtype=np.uint8)
    assert psnr_db(photo, photo) == 100
    assert ssim(photo, photo) == 1


def test_quality_of_a_constant_offset():
    """Mean squared error: the offset squared. SSIM without variance: (2ab + C1) / (a^2 + b^2 + C1),
    C1 = 2.55^2."""
    a, b = np.full((3, 16, 24), 100, np.uint8), np.full((3, 16, 24), 110, np.uint8)
    assert psnr_db(a, b) == psnr_db(b, a) == pytest.approx(20 * np.log10(255 / 10))
    C1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 110 + C1) / (100**2 + 110**2 + C1))


@pytest.mark.parametrize("sides", [(1, 1), (2, 20), (6, 5)])
def test_pictures_smaller_than_a_window_of_ssim_have_one(sides):
    """Of constant pictures, as above, at any size."""
    a, b = (np.full((3, *sides), level, np.uint8) for level in (100, 110))
    C1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 110 + C1) / (100**2 + 110**2 + C1))
    assert ssim(a, a) == 1


def test_worst_psnr_is_zero_and_differences_do_not_wrap():
    black, white = np.zeros((3, 8, 8), np.uint8), np.full((3, 8, 8), 255, np.uint8)
    assert psnr_db(black, white) == psnr_db(white, black) == 0


def test_psnr_of_one_wrong_pixel():
    photo = np.zeros((3, 8, 8), np.uint8)
    picture = photo.copy()
    picture[1, 3, 4] = 51  # a fifth of 255, in one of 192 values
    assert psnr_db(picture, photo) == pytest.approx(10 * np.log10(25 * 192))


# Distances of sets of features.


def test_frechet_distance_of_one_channel():
    """(difference of means)^2 + (difference of standard deviations)^2"""
    x, y = np.array([[1.0], [2.0], [6.0]]), np.array([[0.0], [10.0], [4.0], [8.0]])
    wanted = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-12)


def test_frechet_distance_of_diagonal_covariances():
    def cross(mean, lengths):  # a point each way along each axis: no channel varies with another
        points = np.concatenate([np.diag(lengths), -np.diag(lengths)]) + mean
        return points, 2 * np.square(lengths) / (len(points) - 1)

    rng = np.random.default_rng(0)
    (mean, other), (lengths, others) = rng.normal(size=(2, 5)), rng.uniform(0.1, 3, (2, 5))
    (x, variances), (y, other_variances) = cross(mean, lengths), cross(other, others)
    assert np.allclose(np.cov(x.T), np.diag(variances))
    wanted = ((mean - other) ** 2).sum() + (
        (np.sqrt(variances) - np.sqrt(other_variances)) ** 2
    ).sum()
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-12)


def test_frechet_distance_by_the_root_of_a_matrix():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    y = rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6)) + 0.5
    a, b = np.cov(x.T), np.cov(y.T)
    wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-9)


def test_frechet_distance_of_fewer_pictures_than_channels():
    """Points of a plane that lies in 300 dimensions are as far apart as in the plane."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(10, 2)), rng.normal(size=(12, 2)) * (3, 0.5) + 1
    plane = np.linalg.qr(rng.normal(size=(300, 2)))[0].T
    assert frechet_distance(x @ plane, y @ plane) == pytest.approx(frechet_distance(x, y), rel=1e-9)
    assert frechet_distance(x @ plane, x @ plane) == pytest.approx(0, abs=1e-12)


def test_kernel_distance_by_loops(monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(7, 4)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    kernel = lambda a, b: (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / 4 + 1) ** 3  # noqa: E731
    within = [
        np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])
        for z in (x, y)
    ]
    wanted = sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(wanted, rel=1e-12)
    monkeypatch.setattr(quality, "KERNEL_ROWS", 3)
    assert kernel_distance(x, y) == pytest.approx(wanted, rel=1e-12)


def test_l1_is_of_pictures_from_0_to_1():
    assert l1(plain((255, 0, 51)), plain((0, 0, 0))) == pytest.approx((1 + 0 + 0.2) / 3)


# The table.


def test_every_figure_of_the_record_is_in_the_table_and_in_the_readme():
    names = [metric.name for metric in METRICS]
    assert [*Quality.model_fields] == ["pairs", *names, "caveats"]
    readme = (ROOT / "components" / "benchmark" / "README.md").read_text()
    rows = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \|[^\n]* \| (higher|lower) \|$", readme, re.MULTILINE
    )
    told = {name: better for cell, better in rows for name in re.findall(r"\w+", cell)}
    assert told == {metric.name: metric.better for metric in METRICS}
