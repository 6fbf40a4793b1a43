"""Random crop and flip: one window per sample, the same for all its maps."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A part of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool

    def cut(self, frame: Tensor) -> Tensor:
        """(..., H, W) -> (..., height, width)"""
        part = frame[..., self.top : self.top + self.height, self.left : self.left + self.width]
        return part.flip(-1) if self.mirrored else part


@dataclass(frozen=True)
class Augmentation:
    """What is random about a sample; it follows from (seed, epoch, index) alone."""

    crop: tuple[int, int] | None  # (height, width) in pixels, None = whole frames
    flip: bool  # mirror half of the samples
    seed: int

    def window(self, epoch: int, index: int, height: int, width: int) -> Window:
        """The window of sample `index` in a frame of height x width.

        As the references crop (get_params in base_dataset.py): the corner is uniform over all
        places where the crop fits; a crop as large as the frame or larger takes all of that side.
        """
        random = np.random.default_rng((self.seed, epoch, index))
        mirrored = self.flip and bool(random.random() < 0.5)
        crop_height, crop_width = self.crop or (height, width)
        crop_height, crop_width = min(crop_height, height), min(crop_width, width)
        top = int(random.integers(height - crop_height + 1))
        left = int(random.integers(width - crop_width + 1))
        return Window(top, left, crop_height, crop_width, mirrored)
