"""The gate's judgement, by algebra, and by nights that are simulated: equal models never flap."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from components.benchmark import gate, intervals
from components.benchmark.config import BenchmarkConfig, GateOptions
from shared.contracts.dataset import Pair
from shared.contracts.exported import Graph, Parity
from shared.contracts.measured import Comparison
from shared.quality import METRICS
from tests import tiny
from tests.asking import one_sentence, refusal

RULES = GateOptions()


def judged(name="test/psnr_db", better="higher", interval=(0, 0), noise=0.03, limit=-0.3):
    return gate.judge(name, better, (20, 20), sum(interval) / 2, interval, noise, limit)


# One figure


@pytest.mark.parametrize(
    ("interval", "judgement"),
    [
        ((0, 0), "equal"),
        ((-5, 5), "equal"),
        ((0.04, 1), "better"),
        ((0.02, 1), "equal"),  # not beyond the noise
        ((-0.2, -0.04), "loss"),
        ((-0.2, -0.02), "equal"),
        ((-9, -0.32), "loss"),  # the noise may have it
        ((-9, -0.34), "worse"),
    ],
)
def test_a_figure_is_judged_by_its_interval_and_its_noise(interval, judgement):
    assert judged(interval=interval).judgement == judgement
    low, high = interval
    mirrored = judged(better="lower", interval=(-high, -low), limit=0.3)
    assert mirrored.judgement == judgement and mirrored.low <= mirrored.high


def test_every_figure_has_a_rule_and_its_good_direction():
    for metric in METRICS:
        allowed = RULES.max_loss(metric.name)
        worse = 2 * allowed if metric.better == "lower" else -2 * allowed
        found = gate.judge_quality(metric, (1, 1 + worse), (worse, worse), RULES)
        assert found.judgement == "worse" and found.change == pytest.approx(worse)
        found = gate.judge_quality(metric, (1, 1 - worse), (-worse, -worse), RULES)
        assert found.judgement == "better"


def test_a_speed_is_judged_within_its_rounds():
    """Rounds differ by a factor of a thousand, which no ratio within a round sees."""
    busy = np.geomspace(0.001, 1, 24)[:, None]
    found = gate.judge_speed("fps/a/batch_2", 2, busy * [1 / 0.8, 1, 1], RULES, 0.99)
    assert found.change == pytest.approx(-0.2) and found.judgement == "worse"
    assert found.tonight / found.champion == pytest.approx(0.8) and found.noise == 0.03
    assert found.champion == pytest.approx(2 / math.sqrt(0.001))


def test_the_noise_of_a_speed_is_what_the_champion_differs_from_itself_by():
    seconds = np.ones((24, 1)) * [1.2, 1.1, 0.9]
    found = gate.judge_speed("fps/a/batch_1", 1, seconds, RULES, 0.99)
    assert found.noise == pytest.approx(1.1 / 0.9 - 1)
    assert found.judgement == "equal"  # 17 % slower, but 22 % are noise
    assert not gate.is_quiet(seconds, RULES) and gate.is_quiet(np.ones((24, 3)), RULES)


@pytest.mark.parametrize(
    ("tonight", "again", "judgement", "is_busy"),
    [
        (1.0, 1.0, "equal", False),
        (1.0, 1.05, "equal", False),  # the rule allows 10 %
        (1.0, 1.2, "equal", True),
        (1.3, 1.2, "equal", True),
        (2.0, 1.2, "worse", False),  # by more than the rule and the noise together
        (0.5, 1.2, "better", False),
    ],
)
def test_a_machine_is_too_busy_where_its_noise_is_larger_than_what_the_rule_allows(
    tonight, again, judgement, is_busy
):
    rounds = np.ones((24, 1)) * [tonight, 1, again]
    figure = gate.judge_speed("fps/a/batch_1", 1, rounds, RULES, 0.99)
    assert figure.judgement == judgement
    assert bool(gate.busy_machine(figure, rounds, RULES)) == is_busy
    # One that allows nothing is no stricter than what is noise on any machine.
    strict = GateOptions(min_fps_ratio=1)
    assert not gate.busy_machine(figure, np.ones((24, 3)), strict)


def test_all_figures_share_the_confidence():
    assert gate.confidence_of_each(0.95, 5) == pytest.approx(0.99)


# All of them


def comparison(judgement: str, name="test/psnr_db") -> Comparison:
    bounds = dict(better=(1, 1), equal=(0, 0), loss=(-0.2, -0.2), worse=(-1, -1))
    return judged(name, interval=bounds[judgement])


@pytest.mark.parametrize(
    ("judgements", "outcome"),
    [
        (["equal", "equal"], "equal"),
        (["equal", "better"], "better"),
        (["loss", "equal"], "equal"),
        (["loss", "better"], "equal"),
        (["worse", "better"], "worse"),
        (["worse", "loss"], "worse"),
    ],
)
def test_a_verdict_weighs_the_figures(judgements, outcome):
    names = ("test/psnr_db", "test/ssim")
    figures = list(map(comparison, judgements, names))
    found = gate.verdict(figures, [], champion="abc", source="here")
    assert (found.outcome, found.champion, found.source) == (outcome, "abc", "here")
    assert found.refused == (outcome == "worse") and found.figures == figures
    for reason in found.reasons:
        one_sentence(reason)
    changed = {"PSNR": judgements[0] != "equal", "SSIM": judgements[1] != "equal"}
    if outcome != "worse":
        for title, is_changed in changed.items():
            assert (title in " ".join(found.reasons)) == is_changed


def parity(error: float, limit: float = 1e-4) -> Parity:
    values = dict(runtime="onnxruntime", device="cpu", precision="fp32", samples=1, cosine=1)
    return Parity(**values, max_abs_error=error, mean_abs_error=0, psnr_db=100, limit=limit)


def test_a_file_that_is_not_the_model_is_worse_whatever_else():
    assert gate.parity_faults([parity(1e-4)], RULES) == []
    assert gate.parity_faults([parity(1e-4)], GateOptions(max_parity_error=1e-3)) == []
    strict = GateOptions(max_parity_error=1e-6)
    for error, rules in ((2e-4, RULES), (math.nan, RULES), (1e-5, strict)):
        (fault,) = gate.parity_faults([parity(error)], rules)
        one_sentence(fault)
        assert gate.verdict([comparison("better")], [fault]).outcome == "worse"
        assert gate.verdict_without_champion([fault]).outcome == "worse"
    assert gate.verdict_without_champion([]).outcome == "first"


# Can they be compared?


def obstacles(tmp_path, photos=2, dataset=None, **champion):
    """What forbids to compare a model with a champion of other values, on so many photos."""
    same = dict(graph=Graph(), size=(32, 64), test_digest="a")
    network = tiny.architecture(**champion.pop("network", {}))
    tonight = tiny.export_card(tmp_path, tiny.architecture(), **same)
    other = tiny.export_card(tmp_path, network, **same | champion)
    pairs = [Pair(str(i), 32, 64, i < photos, 0) for i in range(4)]
    fields = dict(test=pairs, test_digest="a") | (dataset or {})
    manifest = tiny.dataset(tmp_path / "dataset").model_copy(update=fields)
    return gate.obstacles(tonight, other, manifest, (32, 64))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(size=(64, 128)), "64x128, tonight's model of 32x64"),
        (dict(network=dict(num_labels=19)), "maps of 19 labels"),
        (dict(network=dict(num_labels=0, input_nc=3)), "pictures of 3 channels"),
        (dict(network=dict(output_nc=1)), "champion's pictures have 1 channels, tonight's 3"),
        (dict(graph=Graph(form="onehot")), "onehot"),
        (dict(precision="fp16"), "fp16"),
        (dict(test_digest="b"), "test pairs are a, the champion was made beside b"),
        (dict(test_digest=""), "not known which test pairs the champion has"),
        (dict(dataset=dict(test_digest="")), "not known which test pairs the data set has"),
        (dict(dataset=dict(has_instances=False)), "instance maps"),
        (dict(photos=1), "1 test pairs have a photo"),
    ],
)
def test_what_cannot_be_compared_says_why(tmp_path, changes, words):
    (reason,) = obstacles(tmp_path, **changes)
    assert words in one_sentence(reason)


def test_what_is_alike_can_be_compared(tmp_path):
    assert obstacles(tmp_path) == []
    assert obstacles(tmp_path, size=("height", "width"), network=dict(ngf=8)) == []


# Its options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("min_fps_ratio", 0),
        ("min_fps_ratio", 1.1),
        ("min_fps_ratio", math.nan),
        ("max_loss_psnr_db", -0.1),
        ("max_loss_fid", math.inf),
        ("max_loss_ssim", "much"),
        ("max_parity_error", -1),
        ("gate_confidence", 1),
        ("gate_seconds", math.inf),
    ],
)
def test_options_are_checked(option, value):
    flag = "--" + option.replace("_", "-")
    assert refusal(BenchmarkConfig.check, {option: value}).startswith(f"{flag} {value!r}: ")


# Nights


def simulated_calls(rng: np.random.Generator, nights: int, calls: int) -> np.ndarray:
    """Seconds of calls one after the other, (nights, calls), on machines between idle and full.

    They drift; other work comes in bursts of up to 60 calls, that take twice as long in them; one
    of thirty is held up for long, without a mean (Pareto, 1.2)."""
    load = rng.uniform(0, 1, nights)
    shortest = 1 / rng.uniform(2, 60, nights)
    logs = rng.normal(0, 0.002, (nights, calls)).cumsum(axis=1)
    logs += rng.normal(0, 0.02, (nights, calls))
    busy = rng.random(nights) < load
    for call in range(calls):
        ends, begins = rng.random((2, nights))
        busy = np.where(busy, ends > shortest, begins < 0.05 * load)
        logs[:, call] += busy * np.abs(rng.normal(0.6, 0.4, nights))
    held_up = rng.random((nights, calls)) < 0.03
    return np.exp(logs + held_up * np.log1p(rng.pareto(1.2, (nights, calls))))


def judgements(ratio: float, nights: int, rounds: int, confidence=0.99) -> Counter:
    """How often a model of `ratio` times the champion's speed is called what. Sessions of a file
    differ by half a percent from each other."""
    rng = np.random.default_rng(0)
    calls = simulated_calls(rng, nights, 3 * rounds).reshape(nights, rounds, 3)
    seconds = np.empty_like(calls)
    for number, order in enumerate(permutations(range(3))):
        seconds[:, number::6, order] = calls[:, number::6]
    seconds *= np.exp(rng.normal(0, 0.005, (nights, 1, 3))) / [ratio, 1, 1]
    names = [
        gate.judge_speed("fps/a/batch_1", 1, night, RULES, confidence).judgement
        for night in seconds
    ]
    return Counter(names)


def test_equal_models_never_flap():
    for nights, rounds in ((3000, 18), (2000, 72)):
        found = judgements(1, nights, rounds)
        assert not found["worse"] and not found["better"] and found["equal"] >= nights - 2


def test_models_that_are_equal_on_average_are_called_so():
    """Differences by pair around 0, also with heavy tails (Student's t of three degrees), of eight
    test pairs."""
    rng, found = np.random.default_rng(0), Counter()
    for _ in range(3000):
        changes = 0.3 * rng.standard_t(3, 8)
        interval = intervals.of_mean(changes, 0.99)
        found[gate.judge_quality(METRICS[0], (20, 20), interval, RULES).judgement] += 1
    assert found["worse"] <= 2 and found["better"] + found["loss"] <= 30


def test_a_model_at_the_limit_is_not_refused_by_chance():
    assert judgements(ratio=0.9, nights=1000, rounds=72)["worse"] <= 10


def test_a_slow_down_is_refused_on_a_busy_machine_too():
    assert judgements(ratio=0.7, nights=1000, rounds=72)["worse"] >= 950
    assert judgements(ratio=1.3, nights=1000, rounds=72)["better"] >= 950
