"""Tonight's deployed file beside the champion's: the same pairs, the same runtime, in turn."""

import itertools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from components.benchmark import gate, intervals
from components.benchmark.config import BenchmarkConfig
from components.benchmark.gate import Round
from components.benchmark.measure.quality import QualityMeter
from components.benchmark.measure.runtimes import TORCH
from components.benchmark.measure.speed import RunnerFailed, describe_problem, rounds_in_turn
from components.benchmark.measure.workload import Workload
from shared import registry
from shared.contracts.exported import ExportCard, Parity
from shared.contracts.measured import Comparison, Verdict
from shared.data.maps import Sample
from shared.deployed.form import Form
from shared.deployed.painter import ExportedFile, Painter, open_runner
from shared.deployed.runners import Runner
from shared.errors import InputError
from shared.files.digests import NotAsWritten
from shared.quality import METRICS

ROUNDS = 18  # at least
ORDERS = 6  # of three runners: there are as many rounds of each
WARMUP = 2  # rounds that do not count


class NotComparable(Exception):
    """Why tonight's model and the champion cannot be compared, in sentences."""

    def __init__(self, *reasons: str):
        super().__init__(*reasons)
        self.reasons = list(reasons)


@dataclass
class Champion:
    """The champion's deployed file, opened."""

    form: Form
    runner: Runner
    again: Runner  # the same file once more: what it differs by from itself is noise
    meter: QualityMeter


@dataclass
class Contest:
    """The comparison with the champion, from its opening to the verdict."""

    rules: BenchmarkConfig
    workload: Workload
    tonight: Runner | None  # of the deployed file
    champion: Champion | None = None  # None: there is none yet, or `obstacles` say why
    obstacles: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)  # what the verdict says of the champion
    faults: list[str] = field(default_factory=list)  # what makes it worse in any case
    rounds: list[Round] = field(default_factory=list)  # seconds of a call
    batch_size: int = 0  # of such a call

    def race(self) -> None:
        """Measure the speed of both at the smallest batch size that they take."""
        if self.champion is None:
            return
        runners = [self.tonight, self.champion.runner, self.champion.again]
        taken = [
            size
            for size in sorted(self.rules.batch_sizes)
            if all(runner.batch_size in (None, size) for runner in runners)
        ]
        if not taken:
            sizes = " and ".join(str(runner.batch_size or "any") for runner in runners[:2])
            self._give_up(
                f"Tonight's file and the champion's take batches of {sizes}: --batch-sizes has "
                "none for both."
            )
            return

        # In turn, until the champion is as fast as itself; its maps have the form of its file.
        own = replace(self.workload, form=self.champion.form)
        workloads, self.batch_size = [self.workload, own, own], taken[0]
        endless = rounds_in_turn(runners, workloads, self.batch_size)
        end = time.perf_counter() + self.rules.gate_seconds
        try:
            for seconds in itertools.islice(endless, WARMUP, None):
                self.rounds.append(seconds)
                if len(self.rounds) >= ROUNDS and len(self.rounds) % ORDERS == 0:
                    if time.perf_counter() >= end or gate.is_quiet(self.rounds, self.rules):
                        break
        except RunnerFailed as failed:
            if failed.number:
                self._give_up(f"The champion's file fails: {failed.problem}.")
            else:
                self.faults.append(f"Tonight's file fails: {failed.problem}.")
        print(f"benchmark: beside the champion: {len(self.rounds)} rounds", flush=True)

    def paint(self, sample: Sample) -> np.ndarray | None:
        """The champion's picture (C, H, W) uint8 of a test pair, and its quality noted; None where
        it is not compared."""
        if self.champion is None:
            return None
        try:
            picture = Painter(self.champion.form, self.champion.runner).paint(sample)
        except Exception as error:  # each runtime has its own kinds
            self._give_up(f"The champion's file fails: {describe_problem(error)}.")
            return None
        if sample.photo is not None:
            labels = sample.inputs if self.champion.form.reads.num_labels else None
            self.champion.meter.add(picture, sample.photo, labels)
        return picture

    def _give_up(self, *reasons: str) -> None:
        self.obstacles += reasons
        self.champion = None

    def verdict(self, tonight: QualityMeter, parity: list[Parity]) -> Verdict:
        """Judge tonight's model.

        Args:
            tonight: What was measured of its pictures of all test pairs.
            parity: Of all runtimes.
        """
        # What makes it worse, whatever the champion is.
        of_files = [each for each in parity if each.runtime not in TORCH]
        faults = self.faults + gate.parity_faults(of_files, self.rules)

        # Its figures beside the champion's.
        figures, busy = [], ""
        if self.champion and not faults:
            try:
                figures = self._figures(tonight)
            except NotComparable as found:
                self._give_up(*found.reasons)
            else:
                busy = gate.busy_machine(figures[0], self.rounds, self.rules)

        if self.obstacles and not faults:
            return Verdict(outcome="not comparable", reasons=self.obstacles, **self.named)
        if not self.named:
            return gate.verdict_without_champion(faults)
        verdict = gate.verdict(figures, faults, **self.named)
        if not busy or verdict.outcome == "worse":
            return verdict
        figures[0] = figures[0].model_copy(update={"judgement": "too busy"})
        values = dict(outcome="not comparable", reasons=[busy], figures=figures)
        return Verdict(**values, **self.named)

    def _figures(self, tonight: QualityMeter) -> list[Comparison]:
        """Compare every figure that both have. Raises NotComparable."""
        # Their quality, and what its intervals are made of: figures by pair, or by group left out.
        own, other = tonight.result(), self.champion.meter.result()
        by_pair = tonight.by_pair, self.champion.meter.by_pair
        left_out = tonight.by_group_left_out(), self.champion.meter.by_group_left_out()

        # The figures that can be judged; all of them share the confidence.
        judged = []
        for metric in METRICS:
            values = getattr(other, metric.name), getattr(own, metric.name)
            if None in values or metric.name not in by_pair[0] | left_out[0]:
                continue
            if not all(map(math.isfinite, values)):
                raise NotComparable(f"{metric.title} is no number: {values[1]}, {values[0]}.")
            judged.append((metric, values))
        confidence = gate.confidence_of_each(self.rules.gate_confidence, len(judged) + 1)

        # Speed, then quality.
        name = f"fps/{self.tonight.name}_{self.tonight.precision}/batch_{self.batch_size}"
        figures = [gate.judge_speed(name, self.batch_size, self.rounds, self.rules, confidence)]
        for metric, values in judged:
            champion, tonight_value = values
            if metric.name in by_pair[0]:
                changes = by_pair[0][metric.name] - by_pair[1][metric.name]
                interval = intervals.of_mean(changes, confidence)
            else:
                changes = left_out[0][metric.name] - left_out[1][metric.name]
                interval = intervals.of_jackknife(tonight_value - champion, changes, confidence)
            figures.append(gate.judge_quality(metric, values, interval, self.rules))
        return figures


def open_contest(
    config: BenchmarkConfig,
    export: ExportCard,
    workload: Workload,
    tonight: Runner | None,
    new_meter: Callable[[], QualityMeter],
) -> Contest | None:
    """Open the champion beside tonight's model; None where no verdict is asked for.

    Args:
        export: Tonight's.
        tonight: The runner of its deployed file that is compared.
        new_meter: Makes a meter of what is measured of the test pairs.
    """
    if not config.is_asked:
        return None
    if not (config.champion or os.environ.get("MLFLOW_TRACKING_URI")):
        print("benchmark: no verdict: MLFLOW_TRACKING_URI does not say where the registry is")
        return None
    contest = Contest(config, workload, tonight)
    try:
        folder = find_champion(config)
        if folder is not None:
            contest.named = {"source": folder.name}
            _open_into(contest, folder, export, new_meter())
    except NotComparable as found:
        contest.obstacles += found.reasons
    for reason in contest.obstacles:
        print(f"benchmark: not comparable with the champion: {reason}", flush=True)
    return contest


def find_champion(config: BenchmarkConfig) -> Path | None:
    """The exported folder of the champion, None where there is none yet. Raises NotComparable where
    the registry does not answer."""
    if config.champion:
        return Path(config.champion)
    try:
        return registry.champion_folder(config.registered_model)
    except registry.RegistryError as error:
        raise NotComparable(str(error)) from None


def _open_into(contest: Contest, folder: Path, export: ExportCard, meter: QualityMeter) -> None:
    """Read and open the champion. Raises NotComparable."""
    # What it is.
    try:
        card = ExportCard.read(folder)
    except InputError as error:
        raise NotComparable(f"The champion cannot be read: {error}") from None
    contest.named["champion"] = card.model_digest
    workload, tonight = contest.workload, contest.tonight
    reasons = gate.obstacles(export, card, workload.manifest, workload.form.size)
    if tonight is None:
        reasons.append("No deployed file was measured: --runtimes has none that runs here.")
    if reasons:
        raise NotComparable(*reasons)

    # Its file, twice, where tonight's runs.
    form = replace(Form.of_export(card), size=workload.form.size)
    try:
        file = ExportedFile.of(folder, card, tonight.name)
        with card.promise(folder, f"The champion {folder.name}").kept(
            card.parts_of(file.path.name)
        ):
            opened = [open_runner(form, tonight.name, file, tonight.device) for _ in range(2)]
    except NotAsWritten as error:
        raise NotComparable(f"The champion's file cannot be opened: {error}") from None
    except Exception as error:  # each runtime has its own kinds
        raise NotComparable(
            f"The champion's file cannot be opened: {describe_problem(error)}."
        ) from None
    if opened[0].precision != tonight.precision:
        raise NotComparable(
            f"The champion's file is {opened[0].precision}, tonight's {tonight.precision}."
        )
    contest.champion = Champion(form, *opened, meter)
