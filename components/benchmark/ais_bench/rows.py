"""Compiled files in the speed table of the benchmark."""

from pathlib import Path

from components.benchmark.ais_bench.figures import AisBenchFailed, AisResult
from components.benchmark.ais_bench.tool import AisBench
from shared.contracts.exported import OmFile
from shared.contracts.measured import SpeedRow


def measure_om(
    folder: Path, files: list[OmFile], batch_sizes: tuple[int, ...], loop: int, warmup: int
) -> list[SpeedRow]:
    """One row per batch size, of the first of `files` (in `folder`) that takes it; what fails is a
    row that says why.

    Raises InputError where ais_bench or the NPU is not there.
    """
    rows = []
    for batch_size in batch_sizes:
        names = dict(runtime="ais_bench", device="npu", batch_size=batch_size)
        file = next((file for file in files if batch_size in file.batch_sizes), None)
        if file is None:
            problem = "no file was compiled for this batch size"
            rows.append(SpeedRow(**names, precision=files[0].precision, problem=problem))
            continue

        gears = len(file.batch_sizes) > 1
        tool = AisBench(folder / file.file, batch_size, gears, warmup=warmup)
        try:
            result = tool.pure(loop)
        except AisBenchFailed as failure:
            rows.append(SpeedRow(**names, precision=file.precision, problem=str(failure)))
        else:
            rows.append(SpeedRow(**names, precision=file.precision, **speed_figures(result)))
    return rows


def speed_figures(result: AisResult) -> dict[str, float | None]:
    """What a SpeedRow holds of a result; latencies are those of the executions, with the mean time
    of the copies."""
    return dict(
        device_images_per_second=result.device_images_per_second,
        images_per_second=result.images_per_second,
        latency_ms_p50=result.with_copies(result.compute_ms_p50),
        latency_ms_p90=result.with_copies(result.compute_ms_p90),
        latency_ms_p99=result.with_copies(result.compute_ms_p99),
    )
