"""The champion beside tonight's model, on real small files through the whole step."""

import inspect
import itertools
import shutil

import numpy as np
import pytest

import components.export.run
from components.benchmark import run as step
from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure import contest
from components.benchmark.measure.contest import ROUNDS, WARMUP
from components.export.config import ExportConfig
from shared.contracts.exported import ExportCard
from shared.contracts.measured import BenchmarkReport, Verdict
from shared.data.images import read_picture
from shared.deployed.runners import OnnxRunner
from shared.registry import RegistryError
from tests import tiny
from tests.asking import one_sentence, refusal
from tests.tiny import one_thread  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data set of four test pairs, three of them with a photo; models `small`, `other` of other
    weights and `slow` of 16 times the channels, each as `<name>` and `<name>_exported`."""
    root = tmp_path_factory.mktemp("contest")
    digest = tiny.dataset(root / "dataset", test=4).test_digest
    for name, gain, changes in (
        ("small", 0.02, {}),
        ("other", 0.2, {}),
        ("slow", 0.02, dict(ngf=32, n_blocks_global=4)),
    ):
        architecture = tiny.architecture(**changes)
        tiny.model(root / name, architecture, gain, test_digest=digest)
        folders = root / name, root / f"{name}_exported", root / "dataset"
        components.export.run.run(*folders, config=ExportConfig(parity_samples=1))
    return root


def benchmark(root, model="small", champion="small_exported", **changes) -> BenchmarkReport:
    """What the step reports of a model; its report is in `report`."""
    values = dict(device="cpu", batch_sizes=(2, 1), rounds=1, warmup=1, gate_seconds=0.2)
    values |= dict(runtimes=("onnxruntime",), max_pictures=1)
    values |= dict(champion=str(root / champion) if champion else "")
    folders = {name: root / name for name in ("dataset", "report")}
    folders |= dict(model=root / model, exported=root / f"{model}_exported")
    step.run(**folders, config=BenchmarkConfig.check(values | changes))
    return BenchmarkReport.read(root / "report")


def by_name(verdict: Verdict) -> dict:
    return {figure.name: figure for figure in verdict.figures}


def changed_card(root, **changes):
    """The folder of `small`'s export, with another card."""
    shutil.rmtree(root / "changed", ignore_errors=True)
    shutil.copytree(root / "small_exported", root / "changed")
    card = ExportCard.read(root / "changed").model_copy(update=changes)
    card.write(root / "changed")
    return root / "changed"


def test_a_model_equals_itself(root):
    report = benchmark(root, min_fps_ratio=0.2)  # on any machine
    found = by_name(report.verdict)
    assert list(found) == ["fps/onnxruntime_fp32/batch_1", "test/psnr_db", "test/ssim", "test/l1"]
    for name in ("psnr_db", "ssim", "l1"):
        figure = found[f"test/{name}"]
        assert figure.tonight == figure.champion == getattr(report.quality, name)
        assert (figure.change, figure.low, figure.high, figure.judgement) == (0, 0, 0, "equal")
    assert report.verdict.outcome == "equal" and not report.verdict.refused
    assert report.verdict.champion == report.model_digest
    assert report.verdict.source == "small_exported"
    headline = report.headline()
    assert headline["gate/psnr_db_change"] == 0
    assert headline["gate/fps_ratio"] == 1 + found["fps/onnxruntime_fp32/batch_1"].change


def test_a_slow_model_is_refused_and_a_fast_one_is_faster(root):
    """Figures of quality may be what they like: a broken rule refuses."""
    verdict = benchmark(root, "slow").verdict
    speed = by_name(verdict)["fps/onnxruntime_fp32/batch_1"]
    assert verdict.outcome == "worse" and speed.judgement == "worse" and speed.high < -0.13
    assert any(reason.startswith("img/s") for reason in verdict.reasons)
    back = by_name(benchmark(root, "small", "slow_exported").verdict)[speed.name]
    assert back.judgement == "better"


def shaken(monkeypatch, tonight: float) -> None:
    """Rounds in which the champion's file takes twice as long as when it is called again, or half
    as long, and tonight's `tonight` times as long as either."""
    busy = itertools.cycle([(1.4 * tonight, 2, 1), (1.4 * tonight, 1, 2)])
    monkeypatch.setattr(contest, "rounds_in_turn", lambda *_: busy)


def test_a_machine_too_busy_to_compare_speeds_leaves_quality_to_refuse(root, monkeypatch, capsys):
    shaken(monkeypatch, 1)
    nothing = dict.fromkeys(("max_loss_psnr_db", "max_loss_ssim", "max_loss_l1"), 0)
    of_both = [
        benchmark(root, *names, **nothing, gate_seconds=0).verdict
        for names in (("other", "small_exported"), ("small", "other_exported"))
    ]
    worse, unclear = sorted(of_both, key=lambda one: one.outcome != "worse")
    assert worse.outcome == "worse" and not any("busy" in reason for reason in worse.reasons)
    assert (unclear.outcome, unclear.refused) == ("not comparable", True)
    (reason,) = unclear.reasons
    assert one_sentence(reason).startswith(
        "The machine was too busy to compare speeds: in 18 rounds the champion's file was by "
        "up to 50 % slower than itself, and the rule allows 10 %; "
    )
    assert unclear.figures[0].judgement == "too busy" and reason in capsys.readouterr().out

    # What is clear all the same.
    shaken(monkeypatch, 8)
    verdict = benchmark(root, gate_seconds=0).verdict
    assert verdict.outcome == "worse" and verdict.figures[0].judgement == "worse"


def test_what_is_better_one_way_is_worse_the_other(root):
    """The same two models change places; rules that allow nothing."""
    nothing = dict.fromkeys(("max_loss_psnr_db", "max_loss_ssim", "max_loss_l1"), 0)
    there = by_name(benchmark(root, "other", **nothing).verdict)
    back = by_name(benchmark(root, "small", "other_exported", **nothing).verdict)
    opposite = dict(better="worse", worse="better", equal="equal")
    for name in ("test/psnr_db", "test/ssim", "test/l1"):
        assert there[name].change == -back[name].change != 0
        assert there[name].low == pytest.approx(-back[name].high)
        assert there[name].judgement == opposite[back[name].judgement]


def test_the_verdict_is_told_everywhere(root, capsys):
    report = benchmark(root, "slow")
    table, page = ((root / "report" / name).read_text() for name in ("table.txt", "report.html"))
    assert table in capsys.readouterr().out
    for text in (table, page):
        assert "worse than the champion: refused" in text
        for reason in report.verdict.reasons:
            one_sentence(reason)
            assert reason in text
    rows = [line for line in table.splitlines() if line.endswith("  worse: refused")]
    worse = [figure for figure in report.verdict.figures if figure.judgement == "worse"]
    assert len(rows) == len(worse) == page.count('<td class="problem">worse: refused</td>')
    assert "small_exported" in page


def test_the_page_shows_the_champions_picture(root):
    """It is what the champion's file makes, by its own benchmark."""
    benchmark(root, "other", champion="")
    own = read_picture(root / "report" / "pictures" / "test_test_0_synthesised.png")
    benchmark(root, "small", "other_exported")
    shown = read_picture(root / "report" / "pictures" / "test_test_0_synthesised_champion.png")
    assert np.array_equal(own, shown)
    assert "by the champion" in (root / "report" / "report.html").read_text()


def test_a_champion_of_another_form_is_given_its_own_maps(root):
    """Instance ids of 16 bits, which tonight's file would refuse."""
    folders = root / "small", root / "narrow_exported", root / "dataset"
    components.export.run.run(*folders, config=ExportConfig(parity_samples=1, ids="int16"))
    verdict = benchmark(root, champion="narrow_exported", min_fps_ratio=0.2).verdict
    assert verdict.outcome == "equal"


def test_without_champion_nothing_is_compared(root, monkeypatch):
    assert benchmark(root, champion="").verdict is None
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert benchmark(root, champion="", registered_model="demo").verdict is None


def test_the_first_one_has_no_champion(root, monkeypatch):
    made = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////never/opened.db")
    monkeypatch.setattr(contest.registry, "champion_folder", lambda name: None)
    monkeypatch.setattr(step, "register", lambda *arguments: made.append(arguments))
    verdict = benchmark(root, champion="", registered_model="demo").verdict
    assert verdict.outcome == "first" and not verdict.refused
    ((name, exported, report, example),) = made
    assert (name, exported, report) == ("demo", root / "small_exported", root / "report")
    assert {key: value.shape for key, value in example.items()} == {
        "labels": (1, 32, 64),
        "instances": (1, 32, 64),
    }
    strict = dict(champion="", registered_model="demo", max_parity_error=1e-12)
    assert benchmark(root, **strict).verdict.outcome == "worse"


def test_a_silent_registry_is_not_comparable(root, monkeypatch):
    def silent(name):
        raise RegistryError("MLflow's registry does not answer (refused).")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////never/opened.db")
    monkeypatch.setattr(contest.registry, "champion_folder", silent)
    monkeypatch.setattr(step, "register", lambda *arguments: None)
    verdict = benchmark(root, champion="", registered_model="demo").verdict
    assert (verdict.outcome, verdict.refused, verdict.champion) == ("not comparable", True, "")
    assert verdict.reasons == ["MLflow's registry does not answer (refused)."]


def test_other_test_pairs_are_not_comparable(root):
    champion = changed_card(root, test_digest="0123")
    report = benchmark(root, champion=champion.name)
    assert report.verdict.outcome == "not comparable" and report.verdict.refused
    assert "0123" in report.verdict.reasons[0] and report.verdict.figures == []
    assert report.verdict.champion == report.model_digest  # what it was is said all the same
    assert report.speed and report.quality.pairs == 3  # the model is measured all the same


def test_a_broken_champion_is_not_comparable(root):
    champion = changed_card(root)
    (champion / "generator.onnx").write_bytes(b"no graph")
    (reason,) = benchmark(root, champion=champion.name).verdict.reasons
    assert "The champion's file cannot be opened" in reason
    (champion / "generator.onnx").unlink()
    (reason,) = benchmark(root, champion=champion.name).verdict.reasons
    assert "has lost its generator.onnx" in reason
    (champion / "export.json").write_text("{}")
    (reason,) = benchmark(root, champion=champion.name).verdict.reasons
    assert "The champion cannot be read" in reason


def test_a_champion_of_another_batch_size_is_not_comparable(root):
    folders = root / "small", root / "three_exported", root / "dataset"
    components.export.run.run(*folders, config=ExportConfig(parity_samples=1, batch_size=3))
    verdict = benchmark(root, champion="three_exported").verdict
    assert verdict.outcome == "not comparable" and "batches of any and 3" in verdict.reasons[0]
    verdict = benchmark(root, champion="three_exported", batch_sizes=(1, 3)).verdict
    assert by_name(verdict).keys() > {"fps/onnxruntime_fp32/batch_3"}


def test_without_a_deployed_file_there_is_nothing_to_compare(root):
    (reason,) = benchmark(root, runtimes=("torch",)).verdict.reasons
    assert "--runtimes" in one_sentence(reason)


@pytest.mark.parametrize("good_calls", [5, 2 * (ROUNDS + WARMUP)])
def test_a_champion_that_fails_while_it_is_measured(root, monkeypatch, good_calls):
    """In a round, and when it paints, after its two calls of every round."""
    calls, call = [], OnnxRunner.__call__

    def of_champion(runner, feeds):
        if "changed" in runner.session._model_path:
            calls.append(runner)
            if len(calls) > good_calls:
                raise MemoryError
        return call(runner, feeds)

    champion = changed_card(root)
    monkeypatch.setattr(OnnxRunner, "__call__", of_champion)
    verdict = benchmark(root, champion=champion.name, gate_seconds=0).verdict
    assert verdict.outcome == "not comparable"
    assert verdict.reasons == ["The champion's file fails: out of memory."]


def test_a_model_that_fails_while_it_is_compared_is_worse(root, monkeypatch):
    call = OnnxRunner.__call__

    def in_turn(runner, feeds):
        callers = {frame.function for frame in inspect.stack()}
        if "small" in runner.session._model_path and "rounds_in_turn" in callers:
            raise MemoryError
        return call(runner, feeds)

    champion = changed_card(root)
    monkeypatch.setattr(OnnxRunner, "__call__", in_turn)
    verdict = benchmark(root, champion=champion.name, gate_seconds=0).verdict
    assert verdict.outcome == "worse"
    assert verdict.reasons == ["Tonight's file fails: out of memory."]


def test_a_champion_that_is_no_folder_is_refused_before_work(root):
    sentence = refusal(benchmark, root, champion="dataset")
    assert sentence.startswith(f"--champion {root / 'dataset'} holds no export.json: ")
