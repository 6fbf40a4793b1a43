"""How good the published generator is: sample pictures of training pairs, figures of test pairs,
and which epoch's are the best."""

import math
from typing import get_args

import numpy as np

from components.train.config import BestBy, ValidationOptions
from components.train.data.batches import Augmentation, Batch, PairDataset, collate
from components.train.step import Trainer
from shared.condition import to_uint8
from shared.data.pictures import show_inputs, side_by_side
from shared.data.reader import PairReader
from shared.quality import METRICS, l1
from shared.scorers.meter import PictureMeter
from shared.scorers.networks import MeasuringNetworks

# Names in the model card and the curves -> the rows of the table of figures.
FIGURES = {
    f"val/{name}": next(metric for metric in METRICS if metric.name == name.lower())
    for name in get_args(BestBy)
}


class Validation:
    """Measures the published generator on test pairs, the same ones each time."""

    def __init__(
        self,
        trainer: Trainer,
        reader: PairReader,
        size: tuple[int, int] | None,
        options: ValidationOptions,
        networks: MeasuringNetworks | None = None,
    ):
        """reader: of the test pairs. size: (height, width) of the frames, None = their own.
        networks: what measures LPIPS and FID, None = nothing does."""
        self.trainer = trainer
        self.every_epochs = options.validate_every_epochs
        self.networks = networks or MeasuringNetworks()
        self.indices = _spread(reader, options.validate_pairs)
        whole = Augmentation(crop=None, flip=False, seed=0)
        regions = trainer.architecture.feature_regions
        self.pairs = PairDataset(reader, size, whole, features=None, regions=regions)

    def is_due(self, epoch: int) -> bool:
        """Whether the options ask for it after this epoch; they do after the last one."""
        if self.every_epochs == 0:
            return False
        return epoch % self.every_epochs == 0 or epoch == self.trainer.schedule.total_epochs

    def describe(self) -> str:
        """For people: what is measured and what to bear in mind, or why nothing is."""
        count = len(self.indices)
        if self._lacks_features():
            return "no validation: the cluster step has features of the training pairs only"
        if not count:
            return "no validation: no test pair has a photo"
        encoded = self.trainer.networks.E is not None
        features = ", whose features E reads off the photos" if encoded else ""
        pairs = f"{count} test pair{'s' if count > 1 else ''}"
        caveats = self.networks.features.caveats(count) if self.networks.features else []
        return "\n".join([f"validation on {pairs}{features}", *caveats])

    def measure(self) -> dict[str, float]:
        """The figures by name; {} where none can be measured, such as of pictures with nan.

        They are means over the pairs, val/fid of all of them together (two or more). Figures that
        are not finite are left out."""
        if self._lacks_features():
            return {}

        # Pair by pair; what a picture with nan would give is no figure.
        meter = PictureMeter(self.networks)
        for index in self.indices:
            pair = collate([self.pairs[index]])
            fake = self.trainer.show(pair)  # (1, output_nc, H, W) in [-1, 1]
            if not fake.isfinite().all():
                print("validation: the pictures hold nan, nothing is measured", flush=True)
                return {}
            meter.add(to_uint8(fake)[0].cpu().numpy(), pair.photos[0].numpy())

        # Under the names of the model card.
        found = meter.figures()
        figures = {name: found.get(metric.name, math.nan) for name, metric in FIGURES.items()}
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def _lacks_features(self) -> bool:
        return self.trainer.architecture.feat_num > 0 and self.trainer.networks.E is None


def _spread(reader: PairReader, max_pairs: int) -> list[int]:
    """Indices of pairs that have a photo, evenly over the split: the first ones of Cityscapes are
    all of one town."""
    found = [index for index, pair in enumerate(reader.pairs) if pair.has_photo]
    count = min(max_pairs, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def sample_picture(
    trainer: Trainer, samples: Batch, colours: np.ndarray
) -> tuple[np.ndarray, float]:
    """Rows of input | synthesised | real: (3, N * H, 3 * W) uint8, and the L1 of synthesised and
    real in [0, 1], nan where a picture is not finite.

    samples: on the CPU. colours: (256, 3) uint8, of every label id."""
    fake = trainer.show(samples)
    photos = samples.photos.numpy()  # (N, output_nc, H, W) uint8, as the next
    synthesised = to_uint8(fake).cpu().numpy()
    shown = [show_inputs(inputs, colours) for inputs in samples.inputs.numpy()]
    rows = zip(shown, synthesised, photos, strict=True)
    picture = np.concatenate([side_by_side(list(row)) for row in rows], axis=1)
    return picture, l1(synthesised, photos) if fake.isfinite().all() else math.nan


class Best:
    """The best value so far of one figure, and its epoch; the earlier of two equal ones, and never
    nan."""

    def __init__(self, metric: str):
        """metric: one of FIGURES."""
        self.metric = metric
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.value, self.epoch = math.nan, 0  # epoch 0: none so far

    def update(self, figures: dict[str, float], epoch: int) -> bool:
        """Whether this epoch is the best so far; figures without this one change nothing."""
        value = figures.get(self.metric, math.nan)
        match FIGURES[self.metric].better:
            case "lower":
                better = value < self.value
            case "higher":
                better = value > self.value
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
