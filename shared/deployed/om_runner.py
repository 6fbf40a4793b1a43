"""A compiled .om behind the same call as the other runtimes, by the Python interface of Ascend's
ais_bench."""

import re
import sys
from pathlib import Path

import numpy as np

from shared.contracts.exported import Graph
from shared.device import pick
from shared.errors import InputError
from shared.files.room import is_of_machine

DEVICE = 0  # the first NPU of `npu-smi info`
INSTALL = (
    "install the wheels of ais_bench and aclruntime from Ascend's tools repository, "
    "https://gitcode.com/Ascend/tools (ais-bench_workload/tool/ais_bench), or by `pip install "
    "msit` and `msit install benchmark`"
)


class OmRunner:
    """A `shared.deployed.runners.Runner` on an NPU, for batches of up to `batch_size`: smaller ones
    are filled up."""

    name = "om"
    device = "npu"

    def __init__(self, file: Path, graph: Graph, batch_size: int, precision: str = "fp16"):
        """Load the file on the NPU. Raises InputError where that cannot be.

        Args:
            batch_size: The one that the file was compiled for, or one of its gears.
            precision: Which ATC was told; fp16 is its own choice.
        """
        session_class = ais_bench_session()
        if not file.is_file():
            raise InputError(
                f"there is no {file}: compile it with `python -m components.export --format om`."
            )
        self.file, self.graph, self.batch_size, self.precision = file, graph, batch_size, precision
        try:
            self.session = session_class(DEVICE, str(file.resolve()))
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{file} cannot be loaded on NPU {DEVICE} ({one_clause(str(error))}): see the "
                "lines of ais_bench above, and whether `npu-smi info` shows the chip that it was "
                "compiled for."
            ) from None
        self._choose_batch()
        self._check_output()

    def _choose_batch(self) -> None:
        """Set the session to `batch_size`. Raises InputError where the file does not take it."""
        for desc in self.session.get_inputs():
            if -1 in desc.shape[1:]:
                raise InputError(
                    f"{self.file} takes {desc.name} {desc.shape}, of no fixed size: compile it "
                    "for one."
                )
            if desc.shape[0] not in (-1, self.batch_size):
                raise InputError(
                    f"{self.file} takes batches of {desc.shape[0]} but {self.batch_size} are "
                    "wanted: compile it for them too."
                )
        if all(desc.shape[0] == self.batch_size for desc in self.session.get_inputs()):
            self.session.set_staticbatch()
            return
        try:
            self.session.set_dynamic_batchsize(self.batch_size)
        except RuntimeError:
            raise InputError(
                f"{self.file} has no gear for batches of {self.batch_size}: compile it for them "
                "too."
            ) from None

    def _check_output(self) -> None:
        """Raises InputError for a file that does not return what the graph says."""
        outputs = [desc.datatype.name for desc in self.session.get_outputs()]
        if len(outputs) != 1 or (outputs[0] == "uint8") != (self.graph.output == "uint8"):
            raise InputError(
                f"{self.file} returns {', '.join(outputs)} but the export has one "
                f"{self.graph.output} picture: compile it from the ONNX file of the same export."
            )

    def __call__(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        """(N, output_nc, H, W) float32 in [-1, 1], or uint8 where the graph says so. Raises
        InputError for what cannot fit, and where the NPU cannot run it."""
        count = len(next(iter(feeds.values())))
        try:
            picture = self.session.run(self._arrays(feeds), out_array=True)[0][:count]
        except RuntimeError as error:
            if is_of_machine(error):
                raise
            raise InputError(
                f"{self.file} cannot be run on NPU {DEVICE} ({one_clause(str(error))}): see the "
                "lines of ais_bench above, or compile it again."
            ) from None
        return picture if self.graph.output == "uint8" else picture.astype(np.float32, copy=False)

    def upload(self, feeds: dict[str, np.ndarray]) -> list:
        """The batch in the NPU's memory."""
        to_device = self.session.create_tensor_from_arrays_to_device
        return [to_device(array) for array in self._arrays(feeds)]

    def compute(self, uploaded: list) -> None:
        """Pictures stay in the NPU's memory; returns when they are done."""
        self.session.run(uploaded, out_array=False)

    def peak_memory_mb(self) -> float:
        """Of the process: ais_bench does not tell that of the NPU."""
        return pick("cpu").peak_memory_mb()

    def close(self) -> None:
        """Free the NPU's memory, for the next file."""
        free = getattr(self.session, "free_resource", None) or self.session.finalize  # of 2023
        free()

    def _arrays(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The arrays in the file's order, filled up to its batch. The NPU is given bytes: what does
        not fit would be misread."""
        wanted = self.session.get_inputs()
        names = [desc.name for desc in wanted]
        if sorted(feeds) != sorted(names):
            raise InputError(
                f"{self.file} takes {', '.join(names)} but is given {', '.join(feeds)}: compile "
                "it from the ONNX file of the same export."
            )
        return [self._fitted(desc, feeds[desc.name]) for desc in wanted]

    def _fitted(self, desc, array: np.ndarray) -> np.ndarray:
        assert 0 < len(array) <= self.batch_size
        shape = (self.batch_size, *desc.shape[1:])
        fill = np.repeat(array[-1:], self.batch_size - len(array), axis=0)
        array = np.concatenate([array, fill])
        if array.shape != shape or array.dtype.name != desc.datatype.name:
            raise InputError(
                f"{self.file} takes {desc.name} as {desc.datatype.name} {shape} but is given "
                f"{array.dtype} {array.shape}: compile it for this size from the ONNX file of the "
                "same export."
            )
        return np.ascontiguousarray(array)


def ais_bench_session() -> type:
    """The class that runs compiled files. Raises InputError where ais_bench is not there."""
    try:
        from ais_bench.infer.interface import InferSession
    except ImportError as error:
        raise unavailable(str(error)) from None
    return InferSession


def unavailable(reason: str) -> InputError:
    """The refusal that says what is missing.

    reason: of the ImportError that ais_bench met."""
    missing = "No module named" in reason
    # PyPI's package has the name but neither ais_bench.infer nor `python -m ais_bench`.
    if missing and re.search(r"ais_bench\.(infer|__main__)", reason):
        return InputError(
            f"the ais_bench of {sys.executable} is not Ascend's tool for .om files but PyPI's "
            f"ais-bench-benchmark, which measures language models ({one_clause(reason)}): `pip "
            f"uninstall ais-bench-benchmark`, then {INSTALL}."
        )
    if missing and ("ais_bench" in reason or "aclruntime" in reason):
        return InputError(
            f"ais_bench is not there for {sys.executable} ({one_clause(reason)}): it is not on "
            f"PyPI, so {INSTALL}."
        )
    if ".so" in reason:
        return InputError(
            f"ais_bench finds no CANN ({one_clause(reason)}): run `source "
            "/usr/local/Ascend/ascend-toolkit/set_env.sh` first, on a machine with the NPU's "
            "driver."
        )
    return InputError(
        f"ais_bench cannot be loaded ({one_clause(reason)}): repair its installation."
    )


def one_clause(text: str) -> str:
    """Another program's words as part of a sentence of ours."""
    return re.sub(r"(?<=\S)\.$", "", " ".join(text.split()).replace(". ", ", "))
