"""What paints: a trained model in PyTorch, or an exported file in the runtime of its kind."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from components.export.synthesise.scenes import Place
from components.export.synthesise.style_choice import (
    StyleFlags,
    Styles,
    styles_for_file,
    styles_for_model,
)
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.model import Architecture
from shared.data.images import resize_ids, resize_photo
from shared.data.maps import resize_picture
from shared.deployed.om_runner import OmRunner
from shared.deployed.runners import OnnxRunner, Runner, TorchRunner
from shared.deployed.styles import Style
from shared.deployed.synthesiser import Synthesiser, feeds, to_pixels
from shared.device import pick
from shared.device_names import DeviceName, PrecisionName
from shared.errors import InputError
from shared.networks.checkpoint import load_generator
from shared.networks.layers import with_picture_statistics


@dataclass(frozen=True)
class PainterFlags:
    model: Place = None
    """Folder of the train step, or one with latest_net_G.pth of NVIDIA's pix2pixHD or of junyanz'
    pix2pix."""
    exported: Place = None
    """Folder of the export step, in place of --model."""
    runtime: Literal["onnx", "om"] = "onnx"
    """Of --exported: ONNX Runtime, or the compiled file on an NPU."""
    device: DeviceName = "auto"
    """auto takes an NPU, else a GPU, else the CPU."""
    precision: PrecisionName = "auto"
    """Arithmetic of --model; auto: fp32 on CPU, bf16 on GPU, fp16 on NPU."""
    batch_norm: Literal["running", "picture"] = "running"
    """Statistics of the BatchNorms of --model. running: those of the training. picture: of each
    picture itself, as pix2pix tests by default."""

    def check(self) -> None:
        """Raises InputError for flags that do not go together."""
        if self.model is None and self.exported is None:
            raise InputError(
                "--model or --exported is needed: give the folder of a trained or of an exported "
                "model."
            )
        if self.model and self.exported:
            raise InputError(
                "--model and --exported were both given: give the one that is to paint."
            )
        if self.model and self.runtime == "om":
            raise InputError(
                "--runtime om runs exported files: give --exported in place of --model."
            )
        if self.exported and self.precision != "auto":
            raise InputError(
                f"--precision {self.precision} is for --model but --exported keeps its own: leave "
                "it out."
            )
        if self.exported and self.batch_norm != "running":
            raise InputError(
                f"--batch-norm {self.batch_norm} is for --model but --exported keeps its own: "
                "leave it out."
            )

    @property
    def painter(self) -> str:
        """For people."""
        return f"--model {self.model}" if self.model else f"--exported {self.exported}"


@dataclass(frozen=True)
class Painter:
    """Maps and styles in, a picture of the size of the maps out."""

    runner: Runner
    architecture: Architecture
    graph: Graph
    size: tuple[int, int] | None = None  # (height, width) in pixels of a file that takes no other
    least_side: int = 2  # of maps, in pixels

    def paint(
        self, inputs: np.ndarray, instances: np.ndarray | None, style: Style | None
    ) -> np.ndarray:
        """Labels (H, W) or picture (C, H, W) uint8, instance ids (H, W) -> (3, H, W) uint8.

        For a file of another size the maps are resized to that, and its picture back.
        """
        height, width = inputs.shape[-2:]
        if self.size:
            inputs = (resize_picture if self.architecture.input_nc else resize_ids)(
                inputs, *self.size
            )
            instances = None if instances is None else resize_ids(instances, *self.size)
        feed = feeds(self.architecture, self.graph, inputs, instances, style)
        return resize_photo(to_pixels(self.runner(feed)[0]), height, width)


def from_model(flags: PainterFlags, style_flags: StyleFlags) -> tuple[Painter, Styles | None]:
    """The generator of a model folder, in PyTorch; styles are None for one without instance
    features."""
    runtime = pick(flags.device, flags.precision)
    card, generator = load_generator(flags.model)
    if flags.batch_norm == "picture":
        generator = with_picture_statistics(generator)
    styles = styles_for_model(style_flags, flags.model, card, runtime)
    graph = Graph(style=styles.form if styles else "none")
    synthesiser = Synthesiser(generator, card.architecture, None, graph)
    return Painter(TorchRunner(synthesiser, runtime), card.architecture, graph), styles


def from_exported(flags: PainterFlags, style_flags: StyleFlags) -> tuple[Painter, Styles | None]:
    """An exported file in its runtime; styles are None for one that takes none as input."""
    card = ExportCard.read(flags.exported)
    styles = styles_for_file(style_flags, flags.exported, card)
    runner = open_om(flags, card) if flags.runtime == "om" else open_onnx(flags, card)
    # a dynamic file reflects maps of two strides or more
    least_side = 2 if card.size else 2 * card.architecture.stride
    return Painter(runner, card.architecture, card.graph, card.size, least_side), styles


def open_onnx(flags: PainterFlags, card: ExportCard) -> Runner:
    file = flags.exported / card.file
    if not file.is_file():
        raise InputError(
            f"--exported {flags.exported} has lost its {card.file}: export the model again."
        )
    device = pick("auto").name if flags.device == "auto" else flags.device
    runner = OnnxRunner(file, card.precision, device)
    if flags.device not in ("auto", runner.device):
        raise InputError(
            f"--device {flags.device}: ONNX Runtime has no {OnnxRunner.PROVIDERS[device]} here: "
            "install its build for that device, or use --device cpu."
        )
    return runner


def open_om(flags: PainterFlags, card: ExportCard) -> Runner:
    """The compiled file of the smallest batches; the runner fills them up."""
    if not card.om:
        raise InputError(
            f"--runtime om: --exported {flags.exported} holds no compiled file: export it with "
            "--format om."
        )
    file = min(card.om, key=lambda om: min(om.batch_sizes))
    return OmRunner(flags.exported / file.file, card.graph, min(file.batch_sizes))
