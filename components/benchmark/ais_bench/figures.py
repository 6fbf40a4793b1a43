"""What ais_bench tells of a batch: from its summary file, or where it leaves none, from its lines.

Its time of a batch is that of the NPU alone. The time of a call with its copies is made here, of
the mean that it tells for the copy of one tensor, and the number of tensors."""

import re
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from components.benchmark.ais_bench.failures import AisBenchFailed

Positive = Annotated[float, Field(gt=0, lt=1e9)]
NUMBER = r"(\d{1,9}(?:\.\d+)?)"
PRINTED_THROUGHPUT = re.compile(
    rf"throughput 1000\*batchsize(?:\.mean)?\({NUMBER}\)/NPU_compute_time\.mean\({NUMBER}\)",
    re.IGNORECASE,
)
PRINTED_TIMES = re.compile(
    rf"NPU_compute_time \(ms\): min = .*, median = {NUMBER}, percentile\(99%\) = {NUMBER}"
)


@dataclass(frozen=True)
class AisResult:
    """The times of one batch. Copies are those of all its inputs, and of its picture."""

    batch_size: int
    compute_ms_mean: float
    compute_ms_p50: float
    compute_ms_p90: float | None  # None where only what it prints is known, as of the copies
    compute_ms_p99: float
    h2d_ms: float | None
    d2h_ms: float | None

    @property
    def device_images_per_second(self) -> float:
        """The rate without copies, and without reading or writing files."""
        return 1000 * self.batch_size / self.compute_ms_mean

    @property
    def images_per_second(self) -> float | None:
        """The rate with copies, one batch after the other."""
        call_ms = self.with_copies(self.compute_ms_mean)
        return None if call_ms is None else 1000 * self.batch_size / call_ms

    def with_copies(self, compute_ms: float | None) -> float | None:
        """The time of a call from host memory to host memory."""
        parts = (compute_ms, self.h2d_ms, self.d2h_ms)
        return None if None in parts else sum(parts)

    def figures(self) -> dict[str, float | None]:
        """All times and rates, by name."""
        return asdict(self) | {
            "device_images_per_second": self.device_images_per_second,
            "images_per_second": self.images_per_second,
        }


class _Sample(BaseModel):
    """Its files, one for each input and output."""

    infiles: list
    outfiles: list


class _Copies(BaseModel):
    mean: FiniteFloat  # ms, of one tensor


class _Summary(BaseModel):
    """Of what ais_bench writes beside its results, as JSON, the part that is read."""

    npu_compute_time_list: Annotated[list[Positive], Field(min_length=1)]
    throughput: Positive
    filesinfo: dict[str, _Sample]
    H2D_latency: _Copies
    D2H_latency: _Copies


def read_summary(content: bytes) -> AisResult:
    """Read the summary file that it writes beside its results. Raises AisBenchFailed for one that
    is none."""
    try:
        summary = _Summary.model_validate_json(content)
        tensors = summary.filesinfo["0"]  # of the first sample
    except (ValueError, KeyError):
        raise AisBenchFailed("ais_bench ended well but left a damaged summary file") from None
    times = np.array(summary.npu_compute_time_list)
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    return AisResult(
        batch_size=round(summary.throughput * times.mean() / 1000),
        compute_ms_mean=float(times.mean()),
        compute_ms_p50=float(p50),
        compute_ms_p90=float(p90),
        compute_ms_p99=float(p99),
        h2d_ms=summary.H2D_latency.mean * len(tensors.infiles),
        d2h_ms=summary.D2H_latency.mean * len(tensors.outfiles),
    )


def read_printed(stdout: str) -> AisResult:
    """Read the lines that every version prints, with as much as they tell.

    Raises AisBenchFailed where they are not there.
    """
    throughput, times = PRINTED_THROUGHPUT.search(stdout), PRINTED_TIMES.search(stdout)
    if throughput is None or times is None:
        raise AisBenchFailed("ais_bench ended well but left no summary file and printed no figures")
    median, p99 = map(float, times.groups())
    return AisResult(
        batch_size=round(float(throughput[1])),
        compute_ms_mean=float(throughput[2]),
        compute_ms_p50=median,
        compute_ms_p90=None,
        compute_ms_p99=p99,
        h2d_ms=None,
        d2h_ms=None,
    )
