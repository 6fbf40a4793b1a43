"""The deployed function: what an exported file computes, and what it is fed."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.condition import encode_maps, to_uint8
from shared.contracts.exported import Graph
from shared.contracts.model import Architecture
from shared.data.frames import densify
from shared.deployed.styles import Style
from shared.errors import InputError


class Synthesiser(nn.Module):
    """Generator with all that is around it in the form that `graph` asks for.

    Args:
        style: (num_labels + 1, feat_num) in [-1, 1], the last row for pixels without label; for
            graph.style "fixed".
        graph: None = maps in, the given style fixed.
    """

    def __init__(
        self,
        generator: nn.Module,
        architecture: Architecture,
        style: Tensor | None,
        graph: Graph | None = None,
    ):
        super().__init__()
        self.generator = generator
        self.architecture = architecture
        self.graph = graph or Graph(style="none" if style is None else "fixed")
        self.register_buffer("style", style if self.graph.style == "fixed" else None)

    @property
    def input_names(self) -> list[str]:
        return input_names(self.architecture, self.graph)

    def forward(self, *arrays: Tensor) -> Tensor:
        """Inputs by position, as `input_names` has them (see Graph) -> picture (N, 3, H, W), float
        or uint8."""
        given = dict(zip(self.input_names, arrays, strict=True))
        picture = self.generator(given.get(CHANNELS) if CHANNELS in given else self._encode(given))
        return to_uint8(picture) if self.graph.output == "uint8" else picture

    def _encode(self, given: dict[str, Tensor]) -> Tensor:
        a = self.architecture
        instances = given["instances"] if a.use_instances else None
        x = encode_maps(given[a.input_name], instances, a.num_labels)
        match self.graph.style:
            case "none":
                return x
            case "fixed":
                features = F.conv2d(_rows(x, a.num_labels), self.style.t()[:, :, None, None])
            case "label":
                rows = _rows(x, a.num_labels)
                painted = given["style"].transpose(1, 2) @ rows.flatten(2)  # (N, feat_num, H * W)
                features = painted.view(painted.shape[0], a.feat_num, rows.shape[2], rows.shape[3])
            case "instance":
                n, k, f = given["style"].shape
                first = torch.arange(n, device=x.device).view(-1, 1, 1) * k  # of each sample's rows
                features = F.embedding(
                    given["instances"].long() + first, given["style"].reshape(-1, f)
                )
                features = features.permute(0, 3, 1, 2)
            case "map":
                features = given["features"]
        return torch.cat([x, features], dim=1)


CHANNELS = "input_concat"  # names of the seed's file
FAKE = "fake_image"


def input_names(a: Architecture, graph: Graph) -> list[str]:
    """Names of the inputs of a deployed file, in their order."""
    if graph.inputs == "onehot":
        return [CHANNELS]
    names = [a.input_name]
    if a.use_instances or graph.style == "instance":
        names.append("instances")
    match graph.style:
        case "label" | "instance":
            names.append("style")
        case "map":
            names.append("features")
    return names


def output_name(graph: Graph) -> str:
    return FAKE if graph.inputs == "onehot" else "picture"


def feeds(
    a: Architecture,
    graph: Graph,
    inputs: np.ndarray,
    instances: np.ndarray | None,
    style: Style | None,
) -> dict[str, np.ndarray]:
    """One pair of maps as the inputs of a deployed file, by name, a batch of one each.

    Args:
        inputs: Labels (H, W) uint8, or a picture (C, H, W) uint8.
        instances: (H, W) ids of any integer type; None where neither edges nor styles need them.
        style: For a model with features; a file with a fixed style does not look at it.
    """
    names = input_names(a, graph)
    if CHANNELS in names:
        x = encode_maps(_one(inputs), _one(instances) if a.use_instances else None, a.num_labels)
        if a.feat_num:
            x = torch.cat([x, _one(style.painted(inputs, instances))], dim=1)
        return {CHANNELS: x.numpy()}
    given = {a.input_name: inputs.astype(graph.labels) if a.num_labels else inputs}
    if graph.style == "instance":
        ids, instances = densify(instances)
    if "instances" in names:
        given["instances"] = narrow(instances, graph.ids)
    match graph.style:
        case "label":
            if style.by_region:
                raise InputError(
                    "styles of single instances need a file with them as input: export with "
                    "--style instance."
                )
            given["style"] = style.by_label
        case "instance":
            given["style"] = style.of_instances(ids, instances, inputs)
        case "map":
            given["features"] = style.painted(inputs, instances)
    return {
        name: np.array(given[name], order="C")[None] for name in names
    }  # copies: torch warns of a cache's own


def narrow(instances: np.ndarray, dtype: str) -> np.ndarray:
    """Ids (H, W) as int32 or int16; where they do not fit as they are, numbered from 0: only
    inequality matters."""
    info = np.iinfo(dtype)
    if instances.min() < info.min or instances.max() > info.max:
        ids, instances = densify(instances)
        if len(ids) > info.max + 1:
            raise InputError(
                f"a map has {len(ids)} instances but the file takes {dtype} ids: export with "
                "--ids int32."
            )
    return instances.astype(dtype)


def stack(feeds: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Batches of one as one batch; tables of instance styles are filled up with zeros to the
    longest."""
    batch = {}
    for name in feeds[0]:
        arrays = [feed[name] for feed in feeds]
        if name == "style":
            longest = max(array.shape[1] for array in arrays)
            arrays = [
                np.pad(array, ((0, 0), (0, longest - array.shape[1]), (0, 0))) for array in arrays
            ]
        batch[name] = np.concatenate(arrays)
    return batch


def to_pixels(picture: np.ndarray) -> np.ndarray:
    """Output (3, H, W) of a deployed file, float in [-1, 1] or uint8 -> (3, H, W) uint8."""
    return picture if picture.dtype == np.uint8 else to_uint8(torch.from_numpy(picture)).numpy()


def _rows(x: Tensor, num_labels: int) -> Tensor:
    """Which row of a style table each pixel takes, (N, num_labels + 1, H, W) of 0 and 1; the last:
    no label."""
    rows = torch.ones_like(x[:, :1])
    if not num_labels:
        return rows
    one_hot = x[:, :num_labels]
    return torch.cat([one_hot, rows - one_hot.sum(dim=1, keepdim=True)], dim=1)


def _one(array: np.ndarray) -> Tensor:
    return torch.tensor(array).unsqueeze(0)
