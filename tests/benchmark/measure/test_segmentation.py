"""Labels found again: confusions that are known, and what is refused."""

import numpy as np
import pytest
from onnx import helper

from components.benchmark.measure.segmentation import (
    CITYSCAPES_CLASSES,
    SegmentationNetwork,
    SegmentationScorer,
)
from tests.asking import refusal
from tests.measuring import (
    ANY,
    brightest_channel,
    plain,
    red_ids,
    red_tens,
    with_red,
    write_network,
)


def test_segmentation_of_a_known_confusion(tmp_path):
    scorer = SegmentationScorer(
        SegmentationNetwork(brightest_channel(tmp_path / "s.onnx"), (2, 4), 3)
    )
    assert scorer.figures() == {}
    found = np.array([[0, 0, 1, 1], [2, 2, 2, 0]])
    labels = np.array([[0, 0, 0, 1], [1, 255, 1, 255]], np.uint8)
    scorer.add(np.eye(3, dtype=np.uint8)[:, found] * 200, labels)
    # 6 pixels count: of label 0 two are found as 0 and one as 1, of label 1 one as 1 and two as 2.
    assert scorer.confusions.sum(axis=0).tolist() == [[2, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]
    assert scorer.figures()["pixel_accuracy"] == pytest.approx(3 / 6)
    assert scorer.figures()["miou"] == pytest.approx((2 / 3 + 1 / 4) / 2), "label 2 does not occur"
    scorer.add(plain((0, 0, 9), (2, 4)), np.full((2, 4), 2, np.uint8))
    accuracy = scorer.figures()["pixel_accuracy"]
    assert accuracy == pytest.approx((3 + 8) / (6 + 8)), "over the pixels of both"
    assert scorer.figures()["miou"] == pytest.approx((2 / 3 + 1 / 4 + 8 / 10) / 3)


def test_labels_are_found_in_a_grey_picture(tmp_path):
    """Whose one channel is its red, too."""
    network = SegmentationNetwork(red_tens(tmp_path / "s.onnx", 4), (2, 4), 4)
    labels = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)
    assert np.array_equal(network(10 * labels[None]), labels)


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
    from shared.data.raw_maps import CITYSCAPES_TRAIN_IDS

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


def test_refusals(tmp_path):
    def segmentation(path, labels) -> str:
        text = refusal(lambda: SegmentationNetwork(path, (8, 8), labels))
        assert text.startswith("--")
        return text.replace(f"{tmp_path}/", "")

    file = tmp_path / "f.onnx"
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
