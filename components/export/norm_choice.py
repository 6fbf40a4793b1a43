"""Which InstanceNorm the file for a chip should have: both are compiled, proven and timed on it."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import nn

from components.export.checks import check_om, read_inputs
from components.export.config import ExportConfig
from components.export.om.chip import soc_version
from components.export.run import run
from shared.contracts.exported import ExportCard, OmFile
from shared.deployed.om_runner import OmRunner, ais_bench_session, one_clause
from shared.deployed.parity import largest_difference, passes
from shared.errors import InputError, WorkFailed
from shared.files.writing import write_atomically

NORMS = ("precise", "native")  # of --instance-norm; the first is exact at every size
FILE = "norms.json"
WARMUP = 3  # executions of each file before those that count


@dataclass
class NormRow:
    """One compiled file."""

    instance_norm: str
    batch_size: int = 0
    ms_p25: float = np.inf  # of an execution, without copies
    ms_p50: float = np.inf
    ms_p75: float = np.inf
    max_abs_error: float = np.inf  # of pictures in [-1, 1], against PyTorch in fp32
    limit: float = 0.0
    passes: bool = False  # both in their largest and in their mean difference
    problem: str = ""


def compare_norms(
    model: Path,
    out: Path,
    dataset: Path | None,
    clusters: Path | None,
    rounds: int,
    config: ExportConfig,
) -> str:
    """The form of --instance-norm for the NPU of this machine; both exports stay in `out`, their
    figures in norms.json.

    Raises InputError without atc, ais_bench or an NPU, and for a model without InstanceNorm,
    WorkFailed where neither form can be used."""
    # What would make it useless.
    ais_bench_session()
    config = ExportConfig.check(config.model_dump() | dict(format="om"))
    check_om(config, out)
    soc_version(config.soc_version)
    size, dropout = config.fixed_size, config.dropout
    _, generator = read_inputs(model, dataset, config.weights, size, dropout)
    if not any(isinstance(module, nn.InstanceNorm2d) for module in generator.modules()):
        raise InputError(f"--model {model} has no InstanceNorm: there is nothing to compare.")

    # Both exports. Their proofs only measure here: what does not pass is a row that says so.
    rows, files = [], {}
    for norm in NORMS:
        print(f"compare-norms: --instance-norm {norm}", flush=True)
        measured = config.model_copy(update=dict(instance_norm=norm, parity_limit=2.0))
        try:
            run(model, out / norm, dataset, clusters, config=measured)
        except (WorkFailed, InputError) as failure:  # a chip may have no kernel for one of them
            if isinstance(failure, InputError) and not files:
                raise
            print(f"compare-norms: {failure}", flush=True)
            first_line = str(failure).partition("\n")[0]
            rows.append(NormRow(norm, problem=one_clause(first_line)))
            continue
        files[norm] = ExportCard.read(out / norm)
        rows += rows_of(norm, files[norm], config)

    # Their speed, in turn.
    for batch_size in sorted({row.batch_size for row in rows if not row.problem}):
        opened = [row for row in rows if row.batch_size == batch_size]
        race(out, files, opened, rounds)

    # What to say.
    chosen, reason = recommend(rows)
    chips = {om.soc_version for card in files.values() for om in card.om}
    found = dict(instance_norm=chosen, reason=reason, soc_version=" ".join(sorted(chips)))
    found |= dict(rounds=rounds, rows=[as_json(row) for row in rows])
    write_atomically(out / FILE, json.dumps(found, indent=1).encode())
    print(table(rows))
    if not chosen:
        raise WorkFailed(f"neither form of InstanceNorm can be used: {reason}.")
    print(f"compare-norms: --instance-norm {chosen}: {reason}")
    print(json.dumps(found))
    return chosen


def rows_of(norm: str, card: ExportCard, config: ExportConfig) -> list[NormRow]:
    """A row for each batch size of the compiled files, with their parity; their times are to
    come."""
    parities = [one for one in card.parity if one.runtime == "om"]
    if not parities:
        return [NormRow(norm, problem="it was not run on an NPU, as the lines above say")]
    rows = []
    for om, measured in zip(card.om, parities, strict=True):
        limit = largest_difference(
            config.limit(measured.precision, measured.device), card.graph.output
        )
        parity = measured.model_copy(update={"limit": limit})
        is_equal = passes(parity, card.graph.output)
        rows += [
            NormRow(norm, size, max_abs_error=parity.max_abs_error, limit=limit, passes=is_equal)
            for size in om.batch_sizes
        ]
    return rows


def race(out: Path, files: dict[str, ExportCard], rows: list[NormRow], rounds: int) -> None:
    """Time the files of one batch size in turn on zeros, and write it into their rows."""
    runners = [open_om(out / row.instance_norm, files[row.instance_norm], row) for row in rows]
    batch = zeros_of(files[rows[0].instance_norm], rows[0].batch_size)
    ms = np.zeros((len(rows), WARMUP + rounds))
    try:
        uploaded = [runner.upload(batch) for runner in runners]
        for turn in range(WARMUP + rounds):
            for i, runner in enumerate(runners):
                started = time.perf_counter()
                runner.compute(uploaded[i])
                ms[i, turn] = 1000 * (time.perf_counter() - started)
    except RuntimeError as error:  # of ais_bench
        raise WorkFailed(f"batches of {rows[0].batch_size}: {one_clause(str(error))}.") from None
    for row, runner, counted in zip(rows, runners, ms[:, WARMUP:], strict=True):
        row.ms_p25, row.ms_p50, row.ms_p75 = np.percentile(counted, [25, 50, 75]).tolist()
        runner.close()


def open_om(exported: Path, card: ExportCard, row: NormRow) -> OmRunner:
    """The compiled file of a row on the NPU."""

    def takes(om: OmFile) -> bool:
        return row.batch_size in om.batch_sizes

    om = next(filter(takes, card.om))
    return OmRunner(exported / om.file, card.graph, row.batch_size, om.precision)


def zeros_of(card: ExportCard, batch_size: int) -> dict[str, np.ndarray]:
    """A batch of nothing, as the file takes it."""
    return {spec.name: np.zeros((batch_size, *spec.shape[1:]), spec.dtype) for spec in card.inputs}


def recommend(rows: list[NormRow]) -> tuple[str, str]:
    """The form to take, and why; "" where neither can be used.

    native where it is faster at every batch size beyond the noise: three quarters of its times are
    below three quarters of the other's."""
    precise, native = ([row for row in rows if row.instance_norm == norm] for norm in NORMS)
    bad = {
        norm: next((why(row) for row in own if not row.passes), "")
        for norm, own in zip(NORMS, (precise, native), strict=True)
    }
    if all(bad.values()):
        return "", "; ".join(f"{norm}: {reason}" for norm, reason in bad.items())
    for norm, other in (NORMS, NORMS[::-1]):
        if bad[other]:
            return norm, f"{other} cannot be used: {bad[other]}"
    ratios = [one.ms_p50 / other.ms_p50 for one, other in zip(precise, native, strict=True)]
    by = f"{min(ratios):.2f} times as fast as precise"
    if all(one.ms_p25 > other.ms_p75 for one, other in zip(precise, native, strict=True)):
        return "native", f"it is {by}, and equal to PyTorch within its limit"
    return "precise", f"native is {by}, no more than the noise; precise is exact at every size"


def why(row: NormRow) -> str:
    """Why a file cannot be used."""
    differs = f"it differs from PyTorch by {row.max_abs_error:.3g}, above {row.limit:g}"
    return row.problem or differs


def as_json(row: NormRow) -> dict[str, object]:
    """The figures of a row, None for what was not measured."""
    return {name: None if value == np.inf else value for name, value in asdict(row).items()}


def table(rows: list[NormRow]) -> str:
    """The rows for people."""
    lines = [f"{'norm':8}{'batch':>6}{'ms p50':>10}{'p25 to p75':>20}{'img/s':>9}{'max error':>11}"]
    for row in rows:
        if row.problem:
            lines.append(f"{row.instance_norm:8}{row.problem}")
            continue
        spread = f"{row.ms_p25:.3f} to {row.ms_p75:.3f}"
        rate = 1000 * row.batch_size / row.ms_p50
        times = f"{row.ms_p50:>10.3f}{spread:>20}{rate:>9.2f}"
        lines.append(
            f"{row.instance_norm:8}{row.batch_size:>6}{times}{row.max_abs_error:>11.2g}"
            + ("" if row.passes else f"  above {row.limit:g}")
        )
    return "\n".join(lines)
