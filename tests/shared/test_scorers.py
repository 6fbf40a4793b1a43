"""Measuring networks of a node or two whose answers are known, and distances of sets of features by
other formulas."""

import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from scipy.linalg import sqrtm

from components.benchmark.measure.quality import QualityMeter
from components.benchmark.measure.segmentation import (
    CITYSCAPES_CLASSES,
    SegmentationNetwork,
    SegmentationScorer,
)
from shared import quality
from shared.contracts.measured import Quality
from shared.errors import InputError
from shared.measuring import MeasuringOptions
from shared.quality import METRICS, frechet_distance, kernel_distance, l1, psnr_db, ssim
from shared.scorers import (
    FeatureNetwork,
    FeatureScorer,
    LpipsNetwork,
    MeasuringNetworks,
)
from tests.asking import refusal
from tests.measuring import (
    ANY,
    FLOAT,
    brightest_channel,
    mean_colour,
    mean_difference,
    red_ids,
    red_tens,
    write_network,
)


def plain(colour, size=(8, 8)) -> np.ndarray:
    """One colour."""
    channels = np.broadcast_to(np.array(colour, np.uint8), 3)
    return np.broadcast_to(channels[:, None, None], (3, *size)).copy()


def with_red(red: np.ndarray) -> np.ndarray:
    return np.stack([red, np.zeros_like(red), np.zeros_like(red)]).astype(np.uint8)


def random_pictures(count: int, size=(8, 12)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 3, *size), dtype=np.uint8))


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
    fakes, reals = (
        [[0, 51, 255], [51, 0, 0], [102, 0, 255]],
        [[0, 0, 0], [255, 51, 0], [51, 51, 51]],
    )
    assert scorer.figures() == {}
    for fake, real in zip(fakes, reals, strict=True):
        scorer.add(plain(fake), plain(real))
    x, y = np.array(fakes) / 255, np.array(reals) / 255
    figures = scorer.figures()
    assert figures["fid"] == pytest.approx(frechet_distance(x, y), rel=1e-5)
    assert figures["kid"] == pytest.approx(kernel_distance(x, y), rel=1e-4)


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
        "for a covariance of "
        "full rank."
    ]
    assert network.caveats(106) == [
        "FID of 106 pictures is biased: compare it only at the same number."
    ]
    assert network.caveats(10_000) == []
    scorer = FeatureScorer(network)
    for pictures in range(1, 4):
        scorer.add(plain(1), plain(2))
        noisy = (
            [f"KID of {pictures} pictures has no bias but scatters, below 0 too."]
            if pictures > 1
            else []
        )
        assert scorer.caveats() == network.caveats(pictures) + noisy


# Segmentation.


def test_segmentation_of_a_known_confusion(tmp_path):
    scorer = SegmentationScorer(
        SegmentationNetwork(brightest_channel(tmp_path / "s.onnx"), (2, 4), 3)
    )
    assert scorer.figures() == {}
    found = np.array([[0, 0, 1, 1], [2, 2, 2, 0]])
    labels = np.array([[0, 0, 0, 1], [1, 255, 1, 255]], np.uint8)
    scorer.add(np.eye(3, dtype=np.uint8)[:, found] * 200, labels)
    # 6 pixels count: of label 0 two are found as 0 and one as 1, of label 1 one as 1 and two as 2.
    assert scorer.confusion.tolist() == [[2, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]
    assert scorer.figures()["pixel_accuracy"] == pytest.approx(3 / 6)
    assert scorer.figures()["miou"] == pytest.approx((2 / 3 + 1 / 4) / 2), "label 2 does not occur"
    scorer.add(plain((0, 0, 9), (2, 4)), np.full((2, 4), 2, np.uint8))
    accuracy = scorer.figures()["pixel_accuracy"]
    assert accuracy == pytest.approx((3 + 8) / (6 + 8)), "over the pixels of both"
    assert scorer.figures()["miou"] == pytest.approx((2 / 3 + 1 / 4 + 8 / 10) / 3)


def test_scores_are_brought_to_the_size_of_the_labels(tmp_path):
    """The border between two halves stays where it is, though scores come at half the size."""
    network = SegmentationNetwork(brightest_channel(tmp_path / "s.onnx", half=True), (8, 8), 3)
    picture = plain((255, 0, 0))
    picture[:, :, 4:] = plain((0, 255, 0))[:, :, 4:]
    assert network(picture).tolist() == [[0] * 4 + [1] * 4] * 8
    own = SegmentationNetwork(brightest_channel(tmp_path / "own.onnx", (1, 3, 4, 4)), (8, 8), 3)
    assert own(picture).tolist() == [[0] * 4 + [1] * 4] * 8


@pytest.mark.parametrize("num_labels", [34, 35])
def test_19_classes_of_cityscapes(tmp_path, num_labels):
    """As components/prepare/reading/labels.py has them; pixels of the other labels do not count."""
    from components.prepare.reading.labels import CITYSCAPES_TRAIN_IDS

    assert {label: k for k, label in enumerate(CITYSCAPES_CLASSES)} == CITYSCAPES_TRAIN_IDS
    scorer = SegmentationScorer(
        SegmentationNetwork(red_tens(tmp_path / "s.onnx", 19), (1, 6), num_labels)
    )
    labels = np.array([[7, 26, 26, 33, 0, 255]], np.uint8)
    scorer.add(with_red(np.array([[0, 130, 120, 180, 0, 0]])), labels)
    assert scorer.network(with_red(np.full((1, 6), 10)))[0, 0] == 8
    assert scorer.figures()["pixel_accuracy"] == pytest.approx(3 / 4), (
        "a rider for a car, and two pixels without class"
    )
    assert scorer.figures()["miou"] == pytest.approx((1 + 1 / 2 + 1) / 3)


def test_ids_are_labels_of_the_data_set(tmp_path):
    scorer = SegmentationScorer(SegmentationNetwork(red_ids(tmp_path / "s.onnx"), (1, 4), 35))
    scorer.add(with_red(np.array([[26, 34, 35, 200]])), np.array([[26, 0, 1, 2]], np.uint8))
    assert scorer.figures()["pixel_accuracy"] == 1 / 4 and scorer.figures()["miou"] == 1 / 4, (
        "what is no label is just wrong"
    )


# Refusals, each a sentence.


def test_refusals(tmp_path):
    def refused(load) -> str:
        text = refusal(load)
        assert text.startswith("--")
        return text.replace(f"{tmp_path}/", "")

    file = tmp_path / "f.onnx"
    feature = lambda path: refused(lambda: FeatureNetwork(path, (8, 8)))  # noqa: E731
    lpips = lambda path: refused(lambda: LpipsNetwork(path, (8, 8)))  # noqa: E731
    segmentation = lambda path, labels: refused(lambda: SegmentationNetwork(path, (8, 8), labels))  # noqa: E731

    assert (
        feature(str(file)) == "--fid-network f.onnx is no file: give an ONNX file, or leave it out."
    )
    file.write_bytes(b"weights")
    assert feature(str(file)).startswith("--fid-network f.onnx cannot be loaded (")
    assert feature(str(file)).endswith("): give a complete ONNX file.")
    assert (
        feature(mean_difference(file))
        == "--fid-network f.onnx has 2 inputs (a, b): give one that takes 1."
    )
    assert (
        lpips(mean_colour(file))
        == "--lpips-network f.onnx has 1 inputs (x): give one that takes 2."
    )
    remedy = (
        "export it for float32 pictures (1, 3, height, width) with a batch of 1 or of any number."
    )
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
    assert segmentation(brightest_channel(file), 0) == (
        "--segmentation-network needs label maps but the data set has pictures as input: leave it "
        "out."
    )
    assert segmentation(brightest_channel(file), 35) == (
        "--segmentation-network f.onnx tells 3 classes apart but the data set has 35 labels: "
        "give one with 35 classes (with 19 for the labels of Cityscapes)."
    )
    assert "tells 19 classes apart but the data set has 20 labels" in segmentation(
        red_tens(file, 19), 20
    )
    flat = write_network(file, [helper.make_node("Flatten", ["x"], ["out"])], {"x": ANY}, 2)
    assert segmentation(flat, 3) == (
        "--segmentation-network f.onnx gives (1, 192) of one picture: "
        "export it to give scores (N, classes, h, w) or ids (N, h, w)."
    )


def test_onnx_runtime_is_needed_only_by_those_who_give_a_network(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "shared.deployed.runners", raising=False)
    assert MeasuringNetworks.load((8, 8), "cpu", MeasuringOptions()) == MeasuringNetworks()
    files = MeasuringOptions(fid_network=mean_colour(tmp_path / "f.onnx"))
    with pytest.raises(InputError) as refusal:
        MeasuringNetworks.load((8, 8), "cpu", files)
    assert (
        str(refusal.value)
        == "--fid-network needs ONNX Runtime: `pip install onnxruntime`, or leave it out."
    )


# All together.


def test_meter_without_networks():
    pictures, meter = random_pictures(4), QualityMeter()
    assert meter.result() == Quality(pairs=0)
    first, second = meter.add(pictures[0], pictures[1]), meter.add(pictures[2], pictures[3])
    assert first == Quality(
        pairs=1, psnr_db=psnr_db(*pictures[:2]), ssim=ssim(*pictures[:2]), l1=l1(*pictures[:2])
    )
    result = meter.result()
    assert result.pairs == 2 and result.caveats == []
    for name in ("psnr_db", "ssim", "l1"):
        assert getattr(result, name) == pytest.approx(
            (getattr(first, name) + getattr(second, name)) / 2
        )
    assert {name for name, value in result if value is None} == {
        "lpips",
        "fid",
        "kid",
        "miou",
        "pixel_accuracy",
    }


def test_meter_with_all_networks(tmp_path):
    files = MeasuringOptions(
        lpips_network=mean_difference(tmp_path / "l.onnx"),
        fid_network=mean_colour(tmp_path / "f.onnx"),
    )
    networks = MeasuringNetworks.load((8, 12), "cpu", files)
    segmentation = SegmentationNetwork(brightest_channel(tmp_path / "s.onnx"), (8, 12), 3)
    pictures, meter = random_pictures(6), QualityMeter(networks, segmentation)
    for fake, real in zip(pictures[:3], pictures[3:], strict=True):
        pair = meter.add(fake, real, fake.argmax(axis=0).astype(np.uint8))
        assert pair.lpips == pytest.approx(2 * pair.l1, rel=1e-5) and pair.fid is None
    result = meter.result()
    means = np.stack(pictures).mean(axis=(2, 3)) / 255
    assert result.lpips == pytest.approx(2 * result.l1, rel=1e-5)
    assert result.fid == pytest.approx(frechet_distance(means[:3], means[3:]), rel=1e-4)
    assert result.kid == pytest.approx(kernel_distance(means[:3], means[3:]), rel=1e-3)
    assert (result.miou, result.pixel_accuracy) == (1, 1)
    assert [caveat[:3] for caveat in result.caveats] == ["FID", "KID"]
    assert Quality.model_validate_json(result.model_dump_json()) == result


def test_every_figure_of_the_record_is_in_the_table_and_in_the_readme():
    names = [metric.name for metric in METRICS]
    assert [*Quality.model_fields] == ["pairs", *names, "caveats"]
    readme = (Path(__file__).parents[2] / "components" / "benchmark" / "README.md").read_text()
    rows = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \|[^\n]* \| (higher|lower) \|$", readme, re.MULTILINE
    )
    told = {name: better for cell, better in rows for name in re.findall(r"\w+", cell)}
    assert told == {metric.name: metric.better for metric in METRICS}
