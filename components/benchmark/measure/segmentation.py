"""Whether a segmentation network, an ONNX file that the user gives, finds the labels again in the
pictures that were synthesised from them."""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from shared.data.images import resize_ids
from shared.errors import InputError
from shared.quality import metrics_of
from shared.scorers.onnx_file import OnnxFile, Size, check_file, unit_range

# Label ids of Cityscapes (0..33, some have a 34th) of the 19 classes that its networks tell apart.
CITYSCAPES_CLASSES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_NUM_LABELS = (34, 35)
GROUPS = 10  # of the pairs, each of which a jackknife leaves out once


class SegmentationNetwork(OnnxFile):
    """Finds the label of every pixel of a picture.

    Its file: pictures (N, 3, H, W) in [0, 1] -> scores (N, classes, h, w), or label ids (N, h, w)
    of the data set. As many classes as labels are the labels; 19 classes of 34 or 35 labels are
    Cityscapes' evaluated ones."""

    FLAG: ClassVar[str] = "--segmentation-network"

    def __init__(self, file: str, size: Size, num_labels: int, device: str = "cpu"):
        """num_labels: of the data set; 0 is refused, as there is nothing to compare with."""
        check_file(self.FLAG, file)
        super().__init__(self.FLAG, file, 1, size, device)
        if not num_labels:
            raise InputError(
                f"{self.flag} needs label maps but the data set has pictures as input: leave it "
                "out."
            )

        # Ids or scores.
        output = self.try_out()
        if output.ndim not in (3, 4) or output.shape[0] != 1:
            raise self.refusal(
                f"gives {output.shape} of one picture",
                "export it to give scores (N, classes, h, w) or ids (N, h, w)",
            )

        # The labels that it can tell: of its classes, in their order.
        classes = output.shape[1] if output.ndim == 4 else num_labels
        cityscapes = classes == len(CITYSCAPES_CLASSES) and num_labels in CITYSCAPES_NUM_LABELS
        if classes != num_labels and not cityscapes:
            raise self.refusal(
                f"tells {classes} classes apart but the data set has {num_labels} labels",
                f"give one with {num_labels} classes (with 19 for the labels of Cityscapes)",
            )
        self.num_labels = num_labels
        self.labels = np.array(CITYSCAPES_CLASSES) if cityscapes else np.arange(num_labels)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Find the label ids (H, W) of a picture (1 or 3, H, W) uint8.

        Scores are brought to the picture's size before the largest is taken."""
        height, width = picture.shape[1:]
        output = self.run(unit_range(picture, self.size))
        if output.ndim == 3:
            return resize_ids(output[0], height, width)
        scores = F.interpolate(torch.from_numpy(output), size=(height, width), mode="bilinear")
        return self.labels[scores[0].argmax(dim=0).numpy()]


class SegmentationScorer:
    """Counts how often labels are found again in the pictures that were synthesised from them.

    Left out are pixels without label, and those of labels that the network does not know.
    """

    def __init__(self, network: SegmentationNetwork):
        self.network = network
        n = network.num_labels
        # Pixels by true label and found label; in column n those in which none of them was found.
        # The pairs are dealt out to groups.
        self.confusions = np.zeros((GROUPS, n, n + 1), np.int64)
        self.pairs = 0

    def add(self, picture: np.ndarray, labels: np.ndarray) -> None:
        """Count the pixels of a picture (1 or 3, H, W) uint8 made from labels (H, W) uint8."""
        n = self.network.num_labels
        found = self.network(picture).astype(np.int64)
        found = np.where((found >= 0) & (found < n), found, n)
        counted = np.isin(labels, self.network.labels)

        # A number for every pair of labels, so that one count makes the matrix.
        pixels = labels[counted].astype(np.int64) * (n + 1) + found[counted]
        confusion = np.bincount(pixels, minlength=n * (n + 1)).reshape(n, n + 1)
        self.confusions[self.pairs % GROUPS] += confusion
        self.pairs += 1

    def figures(self, without: int | None = None) -> dict[str, float]:
        """The figures by name of the metric; {} where no pixel counts.

        without: number of a group of the pairs that is left out."""
        groups = self.confusions if without is None else np.delete(self.confusions, without, 0)
        confusion = groups.sum(axis=0)
        if not confusion.any():
            return {}
        metrics = metrics_of("segmentation")
        return {metric.name: metric.function(confusion) for metric in metrics}
