"""How a deployed file wants its maps: the part of a deployed model that works on the host."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from shared.condition import encode_maps
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.model import GeneratorInput
from shared.data.maps import Sample
from shared.deployed.styles import Style
from shared.deployed.synthesiser import CHANNELS, Synthesiser, input_names
from shared.errors import InputError
from shared.networks.layers import with_picture_statistics

LEAST_SIDE = 2  # of maps, in pixels
Feeds = dict[str, np.ndarray]  # arrays (N, ...) by input name


@dataclass(frozen=True)
class Form:
    """A deployed model as a function of maps, whatever runtime computes it."""

    reads: GeneratorInput
    graph: Graph
    style: Style | None = None  # of pictures that are given none of their own
    size: tuple[int, int] | None = None  # (height, width) of the maps in pixels, None = any
    least_side: int = LEAST_SIDE  # of the maps, in pixels
    batch_norm: Literal["running", "picture"] = "running"  # whose statistics its BatchNorms use

    @classmethod
    def of_export(cls, card: ExportCard) -> Self:
        """The form of an exported file."""
        return cls(
            reads=card.architecture,
            graph=card.graph,
            style=Style(np.array(card.style, np.float32)) if card.style else None,
            size=card.size,
            least_side=card.least_side
            or (LEAST_SIDE if card.size else 2 * card.architecture.stride),
            batch_norm=card.batch_norm,
        )

    def synthesiser(self, generator: nn.Module) -> Synthesiser:
        """The deployed function of this form in PyTorch.

        With batch_norm "picture" the BatchNorms of `generator` are replaced in place."""
        if self.batch_norm == "picture":
            generator = with_picture_statistics(generator)
        fixed = torch.from_numpy(self.style.by_label) if self.graph.style == "fixed" else None
        return Synthesiser(generator, self.reads, fixed, self.graph).eval()

    def feed(self, sample: Sample, style: Style | None = None) -> Feeds:
        """One pair of maps as the inputs of the file, by name, a batch of one each.

        Args:
            sample: Without instances where neither edges nor styles need them.
            style: In place of the form's own; a file with a fixed style does not look at it.

        Raises InputError for styles and ids that the file cannot take.
        """
        reads, graph, style = self.reads, self.graph, style or self.style
        names = input_names(reads, graph)

        # The seed's file: the host makes every channel.
        if graph.form == "onehot":
            edges_of = _one(sample.dense_ids) if reads.use_instances else None
            x = encode_maps(_one(sample.inputs), edges_of, reads.num_labels)  # (1, C, H, W)
            if reads.feat_num:
                x = torch.cat([x, _one(style.painted(sample))], dim=1)
            return {CHANNELS: x.numpy()}

        # Maps, in the types of the file; ids are rows of the table where styles are by instance.
        inputs = sample.inputs.astype(graph.labels) if reads.num_labels else sample.inputs
        given = {reads.input_name: inputs}
        if graph.style == "instance":
            given["instances"] = numbered(sample, graph.ids)
        elif "instances" in names:
            given["instances"] = narrow(sample, graph.ids)

        # Styles, where they are an input.
        match graph.style:
            case "label":
                if style.by_region:
                    raise InputError(
                        "styles of single instances need a file with them as input: export with "
                        "--style instance."
                    )
                given["style"] = style.by_label
            case "instance":
                given["style"] = style.of_instances(sample)
            case "map":
                given["features"] = style.painted(sample)

        # Copies: torch warns of a cache's own arrays, which are read-only.
        return {name: np.array(given[name], order="C")[None] for name in names}


def narrow(sample: Sample, dtype: str) -> np.ndarray:
    """Instance ids (H, W) as int32 or int16; where they do not fit as they are, numbered from 0:
    only inequality matters."""
    info = np.iinfo(dtype)
    if info.min <= sample.ids[0] and sample.ids[-1] <= info.max:
        return sample.instances.astype(dtype)
    return numbered(sample, dtype)


def numbered(sample: Sample, dtype: str) -> np.ndarray:
    """Positions (H, W) in the ids of the sample as int32 or int16. Raises InputError for more ids
    than that type can count."""
    if len(sample.ids) > np.iinfo(dtype).max + 1:
        raise InputError(
            f"a map has {len(sample.ids)} instances but the file takes {dtype} ids: export with "
            "--ids int32."
        )
    return sample.dense_ids.astype(dtype)


def stack(feeds: list[Feeds]) -> Feeds:
    """Batches of one as one batch; tables of instance styles are filled up with zeros to the
    longest."""
    batch = {}
    for name in feeds[0]:
        arrays = [feed[name] for feed in feeds]
        if name == "style":
            longest = max(array.shape[1] for array in arrays)
            missing = [longest - array.shape[1] for array in arrays]
            pairs = zip(arrays, missing, strict=True)
            arrays = [np.pad(array, ((0, 0), (0, rows), (0, 0))) for array, rows in pairs]
        batch[name] = np.concatenate(arrays)
    return batch


def _one(array: np.ndarray) -> Tensor:
    """The array as a batch of one; a copy, since it may be read-only."""
    return torch.tensor(array).unsqueeze(0)
