"""What measuring networks are given and give, by networks of a node or two whose answers are
known."""

import math
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from shared.errors import InputError
from shared.quality import frechet_distance, kernel_distance, l1
from shared.scorers.meter import FeatureScorer
from shared.scorers.networks import FeatureNetwork, LpipsNetwork, MeasuringNetworks
from shared.scorers.options import MeasuringOptions
from tests.asking import refusal
from tests.measuring import (
    ANY,
    FLOAT,
    brightest_channel,
    mean_colour,
    mean_difference,
    plain,
    random_pictures,
    write_network,
)

# The networks.


def test_lpips_network_sees_both_pictures_from_minus_1_to_1(tmp_path):
    network = LpipsNetwork(mean_difference(tmp_path / "lpips.onnx"), (8, 12))
    picture, photo = random_pictures(2)
    assert network(picture, photo) == pytest.approx(2 * l1(picture, photo), rel=1e-5)
    assert network(picture, picture) == 0
    pictured = LpipsNetwork(
        mean_difference(tmp_path / "own.onnx", (1, 3, 8, 12), (1, 3, 8, 12)), (8, 12)
    )
    assert pictured(picture, photo) == network(picture, photo)


def test_features_see_pictures_from_0_to_1(tmp_path):
    scorer = FeatureScorer(FeatureNetwork(mean_colour(tmp_path / "features.onnx"), (8, 8)))
    fakes = [[0, 51, 255], [51, 0, 0], [102, 0, 255]]
    reals = [[0, 0, 0], [255, 51, 0], [51, 51, 51]]
    assert scorer.figures() == {}
    for fake, real in zip(fakes, reals, strict=True):
        scorer.add(plain(fake), plain(real))
    x, y = np.array(fakes) / 255, np.array(reals) / 255
    figures = scorer.figures()
    assert figures["fid"] == pytest.approx(frechet_distance(x, y), rel=1e-5)
    assert figures["kid"] == pytest.approx(kernel_distance(x, y), rel=1e-4)


def test_grey_pictures_are_measured_as_three_equal_channels(tmp_path):
    one, other = (picture[:1] for picture in random_pictures(2))
    distance = LpipsNetwork(mean_difference(tmp_path / "lpips.onnx"), (8, 12))
    assert distance(one, other) == pytest.approx(2 * l1(one, other), rel=1e-5)
    features = FeatureNetwork(mean_colour(tmp_path / "features.onnx"), (8, 12))
    assert features(one) == pytest.approx([one.mean() / 255] * 3, rel=1e-5)


def test_features_that_are_not_finite_give_no_figure(tmp_path):
    logarithm = [
        helper.make_node("Log", ["x"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["out"], axes=[2, 3]),
    ]
    file = write_network(tmp_path / "features.onnx", logarithm, {"x": ANY}, 4)
    scorer = FeatureScorer(FeatureNetwork(file, (4, 4)))
    for _ in range(2):
        scorer.add(plain(0, (4, 4)), plain(9, (4, 4)))
    assert all(math.isnan(scorer.figures()[name]) for name in ("fid", "kid"))


def test_a_network_with_a_size_of_its_own_gets_pictures_of_it(tmp_path):
    network = FeatureNetwork(mean_colour(tmp_path / "features.onnx", (1, 3, 4, 6)), (16, 32))
    picture = plain(0, (16, 32))
    picture[:, :, 16:] = 255
    assert network(picture) == pytest.approx([0.5] * 3, abs=0.01)
    assert network.caveats(20_000) == [
        "FID's network got pictures resized to 4x6 with antialiasing: other programs may do "
        "without."
    ]


def test_caveats_of_few_pictures(tmp_path):
    network = FeatureNetwork(mean_colour(tmp_path / "features.onnx"), (8, 8))
    assert network.caveats(1) == ["FID needs two pairs or more."]
    assert network.caveats(3) == [
        "FID of 3 pictures is biased: compare it only at the same number; more than 3 are needed "
        "for a covariance of full rank."
    ]
    assert network.caveats(106) == [
        "FID of 106 pictures is biased: compare it only at the same number."
    ]
    assert network.caveats(10_000) == []
    scorer = FeatureScorer(network)
    for pictures in range(1, 4):
        scorer.add(plain(1), plain(2))
        noisy = [f"KID of {pictures} pictures has no bias but scatters, below 0 too."]
        assert scorer.caveats() == network.caveats(pictures) + noisy * (pictures > 1)


# Refusals, each a sentence.


def test_refusals(tmp_path):
    def refused(load) -> str:
        text = refusal(load)
        assert text.startswith("--")
        return text.replace(f"{tmp_path}/", "")

    file = tmp_path / "f.onnx"
    feature = lambda path: refused(lambda: FeatureNetwork(path, (8, 8)))  # noqa: E731
    lpips = lambda path: refused(lambda: LpipsNetwork(path, (8, 8)))  # noqa: E731

    no_file = "--fid-network f.onnx is no file: give inception or an ONNX file, or leave it out."
    assert feature(str(file)) == no_file
    file.write_bytes(b"weights")
    assert feature(str(file)).startswith("--fid-network f.onnx cannot be loaded (")
    assert feature(str(file)).endswith("): give a complete ONNX file.")
    of_two = "--fid-network f.onnx has 2 inputs (a, b): give one that takes 1."
    assert feature(mean_difference(file)) == of_two
    of_one = "--lpips-network f.onnx has 1 inputs (x): give one that takes 2."
    assert lpips(mean_colour(file)) == of_one
    remedy = "export it for float32 pictures (1, 3, height, width)"
    remedy += " with a batch of 1 or of any number."
    for shape, found in (
        ((4, 3, 8, 8), "tensor(float) of shape [4, 3, 8, 8]"),
        ((1, 1, 8, 8), "tensor(float) of shape [1, 1, 8, 8]"),
        (("n", 3, 8, 8, 8), "tensor(float) of shape ['n', 3, 8, 8, 8]"),
    ):
        assert feature(mean_colour(file, shape)) == f"--fid-network f.onnx takes {found}: {remedy}"
    cast = helper.make_node("Cast", ["x"], ["out"], to=FLOAT)
    half = write_network(file, [cast], {"x": ANY}, 4, (TensorProto.FLOAT16, FLOAT))
    assert feature(half) == (
        f"--fid-network f.onnx takes tensor(float16) of shape ['n', 3, 'height', 'width']: {remedy}"
    )
    assert feature(brightest_channel(file)) == (
        "--fid-network f.onnx gives (1, 3, 8, 8) of one picture: export it to give pooled "
        "features (N, C)."
    )
    assert lpips(mean_difference(file, (1, 3, 64, 32), (1, 3, 64, 32))) == (
        "--lpips-network f.onnx takes pictures of 64x32 but these are 8x8: export it with dynamic "
        "height and width."
    )
    assert lpips(mean_difference(file, axes=(1,))) == (
        "--lpips-network f.onnx gives (1, 1, 8, 8) of one pair: export it to give one distance, "
        "not a map."
    )
    text = lpips(mean_difference(file, ANY, (1, 3, 4, 4)))
    assert text.startswith("--lpips-network f.onnx fails on a picture of 8x8 (")
    assert text.endswith("): export it for this size or for any.")


def test_onnx_runtime_is_needed_only_by_those_who_give_a_network(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "shared.deployed.runners", raising=False)
    assert MeasuringNetworks.load((8, 8), "cpu", MeasuringOptions()) == MeasuringNetworks()
    files = MeasuringOptions(fid_network=mean_colour(tmp_path / "f.onnx"))
    with pytest.raises(InputError) as refusal:
        MeasuringNetworks.load((8, 8), "cpu", files)
    sentence = "--fid-network needs ONNX Runtime: `pip install onnxruntime`, or leave it out."
    assert str(refusal.value) == sentence
