"""Networks that measure pictures, as ONNX files that the user gives."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.data.images import resize_picture
from shared.data.pictures import to_rgb
from shared.errors import InputError
from shared.files.room import is_of_machine
from shared.servers import patience_s, within

NETWORK = 10  # times the patience with a server that a picture may take
Size = tuple[int, int]  # (height, width)


class Input(NamedTuple):
    """What a file says of one input."""

    name: str
    type: str
    shape: list[int | str | None]


class OnnxFile:
    """An ONNX file for pictures of one size, tried out before there are any. Its first output
    counts.

    Args:
        flag: What the user gave the file with, for refusals.
        pictures: Inputs that it must have, each (1, 3, height, width) float32.
        size: Of the pictures that will come. Where the file has a size of its own, `size` is that
            one.
        device: Of the step; the network runs on a GPU too, and otherwise on the CPU.
    """

    def __init__(self, flag: str, file: str, pictures: int, size: Size, device: str):
        self.flag, self.file = flag, file
        self.session, inputs = self._load("cuda" if device == "cuda" else "cpu")

        # It must take as many pictures, one of each at a time; names instead of numbers are any.
        if len(inputs) != pictures:
            names = ", ".join(each.name for each in inputs)
            raise self.refusal(
                f"has {len(inputs)} inputs ({names})", f"give one that takes {pictures}"
            )
        for each in inputs:
            fits = each.type == "tensor(float)" and len(each.shape) == 4
            batch_and_channels = zip(each.shape, (1, 3), strict=False)
            if not fits or any(isinstance(n, int) and n != m for n, m in batch_and_channels):
                raise self.refusal(
                    f"takes {each.type} of shape {each.shape}",
                    "export it for float32 pictures (1, 3, height, width) with a batch of 1 or of "
                    "any number",
                )

        # Its own size, where it has one.
        sides = zip(inputs[0].shape[2:], size, strict=True)
        self.size: Size = tuple(own if isinstance(own, int) else side for own, side in sides)
        self.names = [each.name for each in inputs]

    def _load(self, device: str):
        """The file as a session of ONNX Runtime, and (name, type, shape) of its inputs.

        Raises InputError where there is no ONNX Runtime, or the file is broken."""
        try:
            # Here, as a training without measuring networks needs no ONNX Runtime.
            from shared.deployed.runners import open_session
        except ModuleNotFoundError:
            raise InputError(
                f"{self.flag} needs ONNX Runtime: `pip install onnxruntime`, or leave it out."
            ) from None
        try:
            session = within(NETWORK * patience_s(), lambda: open_session(self.file, device))
            found = [Input(each.name, each.type, each.shape) for each in session.get_inputs()]
        except Exception as error:  # ONNX Runtime has a class for every reason
            raise self.refusal(
                f"cannot be loaded ({_reason(error)})", "give a complete ONNX file"
            ) from None
        return session, found

    def refusal(self, found: str, remedy: str) -> InputError:
        """A sentence that names the flag and the file."""
        return InputError(f"{self.flag} {self.file} {found}: {remedy}.")

    def run(self, *pictures: np.ndarray) -> np.ndarray:
        """Run it on pictures (1, 3, height, width) float32; returns its first output."""
        import onnxruntime

        # Its graph may have a loop without an end.
        options, limit_s = onnxruntime.RunOptions(), NETWORK * patience_s()
        inputs = dict(zip(self.names, pictures, strict=True))
        try:
            return within(limit_s, lambda: self.session.run(None, inputs, options))[0]
        except TimeoutError:
            options.terminate = True
            raise self.refusal(
                f"gives no answer in {limit_s:g} s", "give a network that ends"
            ) from None

    def try_out(self) -> np.ndarray:
        """Run it on black pictures; returns its first output.

        Raises InputError where it cannot run at this size."""
        blank = np.zeros((1, 3, *self.size), np.float32)
        try:
            return self.run(*[blank] * len(self.names))
        except InputError:
            raise
        except Exception as error:
            if is_of_machine(error):
                raise
            height, width = self.size
            raise self.refusal(
                f"fails on a picture of {height}x{width} ({_reason(error)})",
                "export it for this size or for any",
            ) from None


def unit_range(picture: np.ndarray, size: Size) -> np.ndarray:
    """A picture (1 or 3, H, W) uint8 as (1, 3, height, width) float32 in [0, 1], brought to that
    size with antialiasing; a grey one as three equal channels."""
    resized = resize_picture(to_rgb(picture), *size)
    return np.ascontiguousarray(resized[None], np.float32) / 255


def check_file(flag: str, file: str, names: Iterable[str] = ()) -> None:
    """Raises InputError where a measuring network is not there.

    names: of networks that the flag takes too."""
    if not Path(file).is_file():
        kinds = " or ".join(filter(None, (", ".join(names), "an ONNX file")))
        raise InputError(f"{flag} {file} is no file: give {kinds}, or leave it out.")


def _reason(error: Exception) -> str:
    """The first sentence of an error's message."""
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
