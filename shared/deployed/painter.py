"""A form in a runtime: maps and styles in, pictures out."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from torch import nn

from shared.contracts.exported import ExportCard, OmFile
from shared.data.images import resize_picture
from shared.data.maps import Sample
from shared.data.reader import resize_sample
from shared.deployed.form import Form
from shared.deployed.om_runner import OmRunner
from shared.deployed.openvino_runner import OpenVinoRunner
from shared.deployed.runners import OnnxRunner, Runner, TorchRunner
from shared.deployed.styles import Style
from shared.deployed.synthesiser import input_names, to_pixels
from shared.device import pick
from shared.device_names import DeviceName, PrecisionName
from shared.errors import InputError

RuntimeName = Literal["torch", "torch-compile", "onnxruntime", "om", "openvino"]


@dataclass(frozen=True)
class ExportedFile:
    """A file of an export, as a runtime opens it."""

    path: Path
    precision: str  # of its arithmetic
    batch_size: int = 1  # that an .om is opened for

    @classmethod
    def of(cls, exported: Path, card: ExportCard, runtime: RuntimeName) -> Self:
        """The file of an export that `runtime` opens; of compiled ones that of the smallest
        batches. Raises InputError where there is none."""
        if runtime == "om":
            if not card.om:
                raise InputError(
                    f"--runtime om: --exported {exported} holds no compiled file: export it with "
                    "--format om."
                )
            return cls.compiled(exported, min(card.om, key=lambda om: min(om.batch_sizes)))
        if not (exported / card.file).is_file():
            raise InputError(
                f"--exported {exported} has lost its {card.file}: export the model again."
            )
        return cls(exported / card.file, card.precision)

    @classmethod
    def in_int8(cls, exported: Path, card: ExportCard) -> Self:
        """The int8 twin of the ONNX file. Raises InputError where there is none."""
        if card.int8 is None:
            raise InputError(
                f"--int8: --exported {exported} has no int8 file: export it with --int8 on."
            )
        if not card.int8.file:
            reasons = " and ".join(card.int8.reasons())
            raise InputError(
                f"--int8: --exported {exported} has no int8 file, which would change its pictures "
                f"too much ({reasons}): leave --int8 out."
            )
        if not (exported / card.int8.file).is_file():
            raise InputError(
                f"--exported {exported} has lost its {card.int8.file}: export the model again."
            )
        return cls(exported / card.int8.file, "int8")

    @classmethod
    def compiled(cls, exported: Path, om: OmFile) -> Self:
        """One of the compiled files, for its smallest batches: the runner fills them up."""
        return cls(exported / om.file, om.precision, min(om.batch_sizes))


def open_runner(
    form: Form,
    runtime: RuntimeName,
    source: nn.Module | ExportedFile,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
) -> Runner:
    """The deployed model in a runtime. Raises InputError for a device or a runtime that is not
    here.

    Args:
        source: The generator, for PyTorch; for the other runtimes the exported file.
        device: Where to run; ONNX Runtime takes the CPU where it has no provider for it, an .om
            the NPU.
        precision: Arithmetic of PyTorch, and of OpenVINO (fp32, bf16), which runs on the CPU alone;
            other exported files have their own.
    """
    match runtime:
        case "torch" | "torch-compile":
            compiled = runtime == "torch-compile"
            return TorchRunner(form.synthesiser(source), pick(device, precision), compiled)
        case "onnxruntime":
            device = pick("auto").name if device == "auto" else device
            runner = OnnxRunner(source.path, source.precision, device)
            _refuse_other_file(runner, form, source.path)
            return runner
        case "openvino":
            runner = OpenVinoRunner(source.path, source.precision, precision)
            _refuse_other_file(runner, form, source.path)
            return runner
        case "om":
            return OmRunner(source.path, form.graph, source.batch_size, precision=source.precision)


def _refuse_other_file(runner: OnnxRunner | OpenVinoRunner, form: Form, file: Path) -> None:
    """Raises InputError for a file that takes other inputs than its card says."""
    found, names = runner.inputs, input_names(form.reads, form.graph)
    sides = found[names[0]][-2:] if found.keys() == set(names) else []
    is_fixed = all(isinstance(side, int) for side in sides)
    if not sides or (is_fixed and tuple(sides) != form.size):
        raise InputError(
            f"{file} takes {found}, other inputs than the card beside it says: export again with "
            "`python -m components.export`."
        )


@dataclass(frozen=True)
class Painter:
    """Maps and styles in, a picture of the size of the maps out."""

    form: Form
    runner: Runner

    def paint(self, sample: Sample, style: Style | None = None) -> np.ndarray:
        """A picture (output_nc, H, W) uint8 of the maps of a sample.

        For a file of another size the maps are resized to that, and its picture back."""
        maps = replace(sample, photo=None)
        if self.form.size:
            maps = resize_sample(maps, *self.form.size)
        picture = self.runner(self.form.feed(maps, style))[0]  # (output_nc, h, w)
        return resize_picture(to_pixels(picture), *sample.inputs.shape[-2:])
