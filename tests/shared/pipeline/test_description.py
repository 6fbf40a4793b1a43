"""What a person sees of a run in MLflow."""

import pytest

from shared.contracts.measured import BenchmarkReport, Comparison, Quality, Verdict
from shared.pipeline.description import describe, tags_of
from shared.pipeline.runs import begin
from tests import tiny

PAST = dict(name="fps/onnxruntime_fp32/batch_1", better="higher", champion=20.0, tonight=14.0)
PAST |= dict(change=-0.3, low=-0.32, high=-0.28, noise=0.02, limit=-0.05, judgement="worse")


@pytest.fixture
def run(tmp_path):
    config = {"prepare": {}, "train_global": {}, "benchmark": {}}
    run = begin("demo", config, "/data/streets", {}, {}, tmp_path)
    run.log.write_text("[train_global]\nepoch 1/2\nValueError: no\n")
    return run


def report(verdict: Verdict | None) -> BenchmarkReport:
    quality = Quality(pairs=2, psnr_db=21.5)
    device = {"device": "a card"}
    return tiny.report(quality=quality, verdict=verdict, environment=device)


def test_a_finished_run_shows_its_verdict_and_figures_beside_the_champion(run):
    verdict = Verdict(
        outcome="worse",
        reasons=["Slower than allowed."],
        figures=[Comparison(**PAST)],
        source="version 3",
    )
    run.note(verdict="worse")
    run.note_step("prepare", state="reused", reused_from="demo-20261128-020000")
    run.end("finished")
    text = describe(run, report(verdict))
    assert text.startswith("**worse**, champion version 3. Slower than allowed.")
    (row,) = [line for line in text.splitlines() if "onnxruntime" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["fps/onnxruntime_fp32/batch_1", "14", "20", "-0.3", "worse"]
    assert "- prepare: taken over from demo-20261128-020000" in text
    assert "--continue" not in text
    tags = tags_of(run, report(verdict))
    wanted = dict(verdict="worse", device="a card", raw_data="/data/streets")
    wanted |= {"dataset.digest": "d", "model.digest": "m", "mlflow.note.content": text}
    assert wanted.items() <= tags.items() and "reason" not in tags


def test_without_a_champion_the_figures_stand_alone(run):
    run.end("finished")
    assert "| test/psnr_db | " in describe(run, report(None)).replace("  ", " ")


def test_a_failed_run_says_step_reason_and_its_last_lines(run):
    run.note_step("train_global", state="failed", reason="ValueError: no")
    run.end("failed", "step train_global failed: ValueError: no")
    tags = tags_of(run, None)
    assert tags["failed_step"] == "train_global"
    assert tags["reason"] == "step train_global failed: ValueError: no"
    text = tags["mlflow.note.content"]
    assert text.startswith("**failed**: step train_global failed: ValueError: no")
    assert "epoch 1/2" in text and f"submit --continue {run.name}" in text
