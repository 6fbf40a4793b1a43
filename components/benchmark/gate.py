"""The gate: is tonight's model good enough to take the champion's place? Functions of figures
alone.

A figure is judged by the confidence interval of its change and by the change's noise. A rule is
broken where the whole interval lies beyond what the rule allows, and the noise with it: what could
be chance is never refused. Better is the model of which some figure is, and none is worse."""

import math
from collections.abc import Sequence

import numpy as np

from components.benchmark import intervals
from components.benchmark.config import GateOptions
from components.benchmark.intervals import Interval
from components.benchmark.wording import broken_rule, title
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Parity
from shared.contracts.measured import Comparison, Verdict
from shared.contracts.model import describe_input
from shared.quality import Metric

# Two sessions of one file differ by about 1 % for as long as they live: memory lies elsewhere.
LEAST_SPEED_NOISE = 0.03
# Of the largest allowed loss: less is the work of other kernels and other roundings.
LEAST_QUALITY_NOISE = 0.1
# Seconds of tonight's model, of the champion, and of the champion's file opened a second time.
Round = tuple[float, float, float]
LEAST_PAIRS = 2  # with a photo: of one there is no interval


# One figure.


def judge(
    name: str,
    better: str,
    values: tuple[float, float],
    change: float,
    interval: Interval,
    noise: float,
    limit: float,
) -> Comparison:
    """Compare one figure.

    Args:
        better: Its good direction, higher or lower.
        values: Of the champion and of tonight's model.
        noise: Size of changes that are none.
        limit: The worst change that is allowed.
    """
    # With the good direction up.
    sign = 1 if better == "higher" else -1
    low, high = sorted(sign * bound for bound in interval)
    if high < sign * limit - noise:
        judgement = "worse"
    elif high < -noise:
        judgement = "loss"
    elif low > noise:
        judgement = "better"
    else:
        judgement = "equal"
    champion, tonight = values
    low, high = interval
    return Comparison(
        name=name,
        better=better,
        champion=champion,
        tonight=tonight,
        change=change,
        low=low,
        high=high,
        noise=noise,
        limit=limit,
        judgement=judgement,
    )


def judge_speed(
    name: str, images: int, rounds: Sequence[Round], rules: GateOptions, confidence: float
) -> Comparison:
    """Compare speeds.

    The change is the median over the rounds of the ratio within a round. Its noise is what the
    champion's file differs from itself by.

    Args:
        name: Of the figure.
        images: In a call.
    """
    tonight, champion, again = np.log(np.transpose(rounds))
    ratios = (champion + again) / 2 - tonight  # of speeds, as logarithms
    change = math.expm1(np.median(ratios))
    interval = tuple(map(math.expm1, intervals.of_median(ratios, confidence)))
    noise = max(math.expm1(abs(np.median(champion - again))), LEAST_SPEED_NOISE)
    fps = images / math.exp(np.median([champion, again]))
    values = fps, fps * (1 + change)
    return judge(name, "higher", values, change, interval, noise, rules.min_fps_ratio - 1)


def is_quiet(rounds: Sequence[Round], rules: GateOptions) -> bool:
    """Whether the champion is as fast as itself: more rounds would tell no more."""
    return _unrest(rounds, rules) <= LEAST_SPEED_NOISE


def busy_machine(figure: Comparison, rounds: Sequence[Round], rules: GateOptions) -> str:
    """A sentence on why a machine cannot tell such speeds apart, "" where it can: a change that is
    clear in spite of its noise is one."""
    unrest = _unrest(rounds, rules)
    allowed = max(-math.log(rules.min_fps_ratio), LEAST_SPEED_NOISE)
    if figure.judgement in ("better", "worse") or unrest <= allowed:
        return ""
    shares = [100 * -math.expm1(-logarithm) for logarithm in (unrest, allowed)]
    return (
        f"The machine was too busy to compare speeds: in {len(rounds)} rounds the champion's file "
        "was by up to {:.0f} % slower than itself, and the rule allows {:.0f} %; benchmark again "
        "when less runs beside it, or with more --gate-seconds.".format(*shares)
    )


def _unrest(rounds: Sequence[Round], rules: GateOptions) -> float:
    """What the champion's speed may differ from itself by, as a logarithm: the farther end of the
    interval."""
    _, champion, again = np.log(np.transpose(rounds))
    interval = intervals.of_median(champion - again, rules.gate_confidence)
    return max(map(abs, interval))


def judge_quality(
    metric: Metric, values: tuple[float, float], interval: Interval, rules: GateOptions
) -> Comparison:
    """Compare a figure of quality, of the champion and of tonight's model; `interval` is of its
    change."""
    champion, tonight = values
    allowed = rules.max_loss(metric.name)
    limit = -allowed if metric.better == "higher" else allowed
    noise = LEAST_QUALITY_NOISE * allowed
    change = tonight - champion
    return judge(f"test/{metric.name}", metric.better, values, change, interval, noise, limit)


def confidence_of_each(confidence: float, figures: int) -> float:
    """The confidence that each figure needs so that all of them together have `confidence`
    (Bonferroni)."""
    return 1 - (1 - confidence) / figures


# Can they be compared?


def obstacles(
    export: ExportCard, champion: ExportCard, manifest: DatasetManifest, size: tuple[int, int]
) -> list[str]:
    """Sentences on what forbids to compare two exports on the test pairs of a data set; none where
    nothing does.

    size: (height, width) in pixels at which tonight's is measured."""
    # What they are.
    found = []
    if describe_input(champion.architecture) != describe_input(export.architecture):
        found.append(
            f"The champion reads {describe_input(champion.architecture)}, tonight's model "
            f"{describe_input(export.architecture)}."
        )
    elif champion.architecture.use_instances and not manifest.has_instances:
        found.append("The champion reads instance maps, which the data set has not.")
    made = [one.architecture.output_nc for one in (champion, export)]
    if made[0] != made[1]:
        found.append("The champion's pictures have {} channels, tonight's {}.".format(*made))
    if champion.size not in (None, size):
        sizes = [f"{height}x{width}" for height, width in (champion.size, size)]
        found.append("The champion is of {}, tonight's model of {}.".format(*sizes))
    if champion.graph.form != export.graph.form:
        found.append(
            f"The champion's file takes {champion.graph.form}, tonight's {export.graph.form}."
        )
    if champion.precision != export.precision:
        found.append(f"The champion's file is {champion.precision}, tonight's {export.precision}.")

    # What they are measured on.
    known, wanted = champion.test_digest, manifest.test_digest
    if not (known and wanted):
        whose = "the data set" if known else "the champion"
        found.append(f"It is not known which test pairs {whose} has: it was made by old code.")
    elif known != wanted:
        found.append(f"The test pairs are {wanted}, the champion was made beside {known}.")
    photos = sum(pair.has_photo for pair in manifest.test)
    if photos < LEAST_PAIRS:
        found.append(f"{photos} test pairs have a photo, {LEAST_PAIRS} are needed at least.")
    return found


# All figures.


def verdict(figures: list[Comparison], faults: list[str], **champion: str) -> Verdict:
    """Judge a model by its comparisons with the champion.

    Args:
        faults: Sentences on what makes it worse whatever the figures are.
        champion: Fields of the verdict that say which it was.
    """
    # By judgement; those of the first that occur decide.
    worse, loss, better = (
        [figure for figure in figures if figure.judgement == judgement]
        for judgement in ("worse", "loss", "better")
    )
    gains, losses = (", ".join(map(title, group)) for group in (better, loss))
    if worse or faults:
        outcome, reasons = "worse", faults + list(map(broken_rule, worse))
    elif better and not loss:
        outcome, reasons = "better", [f"Better in {gains}, in no figure worse."]
    elif better:
        outcome = "equal"
        reasons = [
            f"Better in {gains} but worse in {losses}, by less than the rules refuse: the champion "
            "stays, unless a person promotes this one."
        ]
    elif loss:
        outcome, reasons = "equal", [f"Worse in {losses}, by less than the rules refuse."]
    else:
        outcome, reasons = "equal", ["No figure changed by more than its noise."]
    return Verdict(outcome=outcome, reasons=reasons, figures=figures, **champion)


def verdict_without_champion(faults: list[str]) -> Verdict:
    """The verdict on a first model; also the first has to be without faults."""
    if faults:
        return Verdict(outcome="worse", reasons=faults)
    return Verdict(outcome="first", reasons=["There is no champion to compare with."])


def parity_faults(of_files: Sequence[Parity], rules: GateOptions) -> list[str]:
    """A sentence for each exported file that is farther from PyTorch than the rules allow."""
    found = []
    for parity in of_files:
        if parity.least_psnr_db:
            if not parity.psnr_db >= parity.least_psnr_db:
                found.append(
                    f"The pictures of the {parity.precision} file in {parity.runtime} have "
                    f"{parity.psnr_db:.1f} dB PSNR against PyTorch's, {parity.least_psnr_db:g} dB "
                    "are asked for."
                )
            continue
        limit = rules.max_parity_error or parity.limit
        if not parity.max_abs_error <= limit:  # nan is not
            found.append(
                f"The {parity.runtime} file differs from PyTorch by up to "
                f"{parity.max_abs_error:.1e}, {limit:.1e} is allowed."
            )
    return found
