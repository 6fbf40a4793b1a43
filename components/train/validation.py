"""How good the published generator is on pairs that it has not learned from, and which epoch's is
the best."""

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from components.train.data.augment import Augmentation
from components.train.data.batches import Batch, PairDataset, collate
from shared.condition import to_signed, to_uint8
from shared.data.maps import PairReader
from shared.quality import psnr_db, ssim
from shared.scorers import FeatureScorer, MeasuringNetworks

if TYPE_CHECKING:
    from components.train.loop import Trainer  # which imports this file

Metric = Literal["val/psnr_db", "val/ssim", "val/L1", "val/lpips", "val/fid"]
LOWER_IS_BETTER = ("val/L1", "val/lpips", "val/fid")
WITHOUT_NETWORKS = MeasuringNetworks()


@torch.inference_mode()
def validate(
    trainer: "Trainer",
    reader: PairReader,
    size: tuple[int, int] | None,
    max_pairs: int,
    networks: MeasuringNetworks = WITHOUT_NETWORKS,
) -> dict[str, float]:
    """Means over at most `max_pairs` test pairs that have a photo; {} where none can be measured.

    size: (height, width) of the frames, None = their own. val/L1: distance in [0, 2] of pictures in
    [-1, 1]. val/psnr_db and val/ssim: of the uint8 pictures. val/lpips: their mean, val/fid: of all
    pairs together (two or more), where the networks are there. Figures that are not finite are left
    out, and of pictures with nan all."""
    if _lacks_features(trainer):
        return {}
    pairs = PairDataset(
        reader, size, Augmentation(None, False, 0), None, trainer.architecture.feature_regions
    )
    published, rows = trainer.published(), []
    features = FeatureScorer(networks.features) if networks.features else None
    with evaluating(*published.values()):
        for index in _spread(reader, max_pairs):
            distance, picture, photo = _synthesise(trainer, published["G"], collate([pairs[index]]))
            if not math.isfinite(distance):
                print("validation: the pictures hold nan, nothing is measured", flush=True)
                return {}
            row = {
                "val/L1": distance,
                "val/psnr_db": psnr_db(picture, photo),
                "val/ssim": ssim(picture, photo),
            }
            if networks.lpips:
                row["val/lpips"] = networks.lpips(picture, photo)
            if features:
                features.add(picture, photo)
            rows.append(row)
    figures = (
        {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}
    )
    if features and (found := features.figures()):
        figures["val/fid"] = found["fid"]
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def describe_validation(
    trainer: "Trainer",
    reader: PairReader,
    max_pairs: int,
    networks: MeasuringNetworks = WITHOUT_NETWORKS,
) -> str:
    """For people: what `validate` measures and what to bear in mind, or why it measures nothing."""
    count = len(_spread(reader, max_pairs))
    if _lacks_features(trainer):
        return "no validation: the cluster step has features of the training pairs only"
    if not count:
        return "no validation: no test pair has a photo"
    features = ", whose features E reads off the photos" if trainer.networks.E else ""
    caveats = networks.features.caveats(count) if networks.features else []
    return "\n".join(
        [f"validation on {count} test pair{'s' if count > 1 else ''}{features}", *caveats]
    )


def _lacks_features(trainer: "Trainer") -> bool:
    return trainer.architecture.feat_num > 0 and trainer.networks.E is None


def _spread(reader: PairReader, max_pairs: int) -> list[int]:
    """Indices of pairs that have a photo, evenly over the split: the first ones of Cityscapes are
    all of one town."""
    found = [index for index, pair in enumerate(reader.pairs) if pair.has_photo]
    count = min(max_pairs, len(found))
    return [found[i * len(found) // count] for i in range(count)]


@contextlib.contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that each had."""
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)


def _synthesise(
    trainer: "Trainer", G: nn.Module, one: Batch
) -> tuple[float, np.ndarray, np.ndarray]:
    """(distance before rounding, nan where the picture is not finite; picture and photo (3, H, W)
    uint8) of a pair."""
    batch = one.to(trainer.runtime.torch_device)
    photo = to_signed(batch.photos)
    with trainer.runtime.autocast():
        fake = trainer.synthesise(batch, trainer.condition(batch), photo, G).float()
    pictures = [picture[0].cpu().numpy() for picture in (to_uint8(fake), batch.photos)]
    return (fake - photo).abs().mean().item(), *pictures


class Best:
    """The best value so far of one metric, and its epoch; the earlier of two equal ones, and never
    nan."""

    def __init__(self, metric: Metric):
        self.metric = metric
        self.value, self.epoch = math.nan, 0  # epoch 0: none so far

    def update(self, metrics: dict[str, float], epoch: int) -> bool:
        """Whether this epoch is the best so far; metrics without this one change nothing."""
        value = metrics.get(self.metric, math.nan)
        better = value < self.value if self.metric in LOWER_IS_BETTER else value > self.value
        if better or (self.epoch == 0 and not math.isnan(value)):
            self.value, self.epoch = value, epoch
            return True
        return False

    def state_dict(self) -> dict[str, str | float | int]:
        return {"metric": self.metric, "value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, str | float | int]) -> None:
        """Starts anew where the state is of another metric."""
        if state["metric"] == self.metric:
            self.value, self.epoch = state["value"], state["epoch"]


def final_table(metrics: dict[str, float], epoch: int, best: Best | None = None) -> str:
    """Mean losses of the last epoch (G_*, D_*), validation metrics (val/*), and the best epoch, in
    aligned columns."""
    losses = {name: value for name, value in metrics.items() if name.startswith(("G_", "D_"))}
    validation = {
        name.removeprefix("val/"): value
        for name, value in metrics.items()
        if name.startswith("val/")
    }
    width = max(map(len, losses | validation), default=0)
    rows = lambda figures: [f"  {name:{width}}  {value:10.4f}" for name, value in figures.items()]  # noqa: E731
    lines = [f"mean losses of epoch {epoch}", *rows(losses)]
    if validation:
        lines += [f"validation after epoch {epoch}", *rows(validation)]
    if best and best.epoch:
        lines.append(
            f"best {best.metric.removeprefix('val/')} {best.value:.4f} after epoch {best.epoch}"
        )
    return "\n".join(lines)
