"""Maps that were resized with antialiasing are told from those that were not."""

import numpy as np
import pytest
from PIL import Image

from components.prepare.demo.street import draw_scene
from components.prepare.reading.edges import invented_ids
from shared.data.images import read_ids
from tests.places import EXCERPT

MIXING = [Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]


@pytest.fixture(scope="module")
def streets():
    """Label maps (256, 512) of the demo scenes."""
    rng = [np.random.default_rng(seed) for seed in range(3)]
    return [draw_scene(256, 512, one)[1] for one in rng]


def resized(labels, how, factor=0.5):
    height, width = (int(side * factor) for side in labels.shape)
    return np.asarray(Image.fromarray(labels).resize((width, height), how))


def test_maps_as_they_were_drawn_are_not_suspected(streets):
    for labels in streets:
        for factor in (1, 0.5, 0.3, 1.5):
            found = invented_ids(resized(labels, Image.Resampling.NEAREST, factor))
            assert found.tolist() == []


@pytest.mark.parametrize("how", MIXING)
@pytest.mark.parametrize("spread", [1, 7])  # ids as they are, or far apart
def test_maps_that_were_mixed_are_found(streets, how, spread):
    """Not each: few regions, or labels that follow each other, leave no sign."""
    found = [invented_ids(resized(labels * np.uint8(spread), how, 0.4)) for labels in streets]
    assert sum(len(ids) > 0 for ids in found) >= (2 if spread > 1 else 1)
    for labels, ids in zip(streets, found, strict=True):
        drawn = {*np.unique(labels * np.uint8(spread)).tolist()}
        assert not len(ids) or len({*ids.tolist()} - drawn) > len(ids) / 2


def test_what_only_looks_like_steps_is_no_proof():
    """A ramp, noise, a line of one pixel between two regions, and maps that are too small."""
    ramp = np.arange(64, dtype=np.uint8).repeat(64).reshape(64, 64)
    noise = np.random.default_rng(0).integers(0, 35, (64, 64)).astype(np.uint8)
    lines = np.full((64, 64), 10, np.uint8)
    lines[:, 30], lines[:, 31:] = 20, 30
    for ids in (ramp, noise, lines, ramp[:2], ramp[:, :1], ramp.astype(np.int32)):
        assert invented_ids(ids).tolist() == []


@pytest.mark.skipif(not EXCERPT.is_dir(), reason="no real images here")
def test_real_maps_are_not_suspected():
    maps = sorted(EXCERPT.rglob("*_gtFine_labelIds.png"))
    assert maps and all(not len(invented_ids(read_ids(path))) for path in maps[:4])
