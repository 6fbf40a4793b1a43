"""Pipelines killed at random moments of every step, which go on until they are done: what they have
written in the end equals what an uninterrupted run writes."""

import os
import random
import signal
import time

import pytest

from pipeline import CONFIGS
from tests.shared.pipeline.killing import Pipeline, statuses_in_mlflow, written_by_steps

SEED = os.environ.get("KILL_MATRIX_SEED") or str(time.time_ns() % 1_000_000)
KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT

CHAINS = {
    "submit": [("submit", KILL), ("submit", TERM), ("submit", INT)] * 2,
    "submit, in another order": [("submit", TERM), ("submit", INT), ("submit", KILL)] * 2,
    "nightly": [("nightly", INT), ("nightly", KILL), ("nightly", TERM)] * 2,
    # the pipeline under the night, and the step, as the system does it for want of memory
    "nightly, from below": [None, ("submit", KILL), None, ("step", KILL), None, None],
}


@pytest.fixture(scope="module")
def uninterrupted(scenes, tmp_path_factory) -> Pipeline:
    pipeline = Pipeline(tmp_path_factory.mktemp("uninterrupted"), scenes)
    pipeline.finish()
    return pipeline


@pytest.mark.slow
@pytest.mark.parametrize("chain", CHAINS)
def test_what_is_killed_in_every_step_ends_as_if_it_had_not_been(
    chain, uninterrupted, scenes, tmp_path
):
    pipeline = Pipeline(tmp_path, scenes, chain.partition(",")[0])
    chance = random.Random(f"{SEED} {chain}")
    for step, kill in zip(CONFIGS, CHAINS[chain], strict=True):
        if kill:
            pipeline.start()
            pipeline.wait_for(step)
            time.sleep(chance.random() * uninterrupted.record()["steps"][step]["seconds"])
            pipeline.kill(*kill)
    run = pipeline.finish()
    print(f"seed {SEED}: {chain}: {'; '.join(pipeline.kills)}")
    assert written_by_steps(run) == written_by_steps(uninterrupted.run)
    # torch and ONNX Runtime leave something of their own there, killed or not.
    assert pipeline.temporary_files() <= uninterrupted.temporary_files()
    # One run in MLflow of the whole, and none that looks as if a process were still in it.
    statuses = statuses_in_mlflow(tmp_path)
    assert [status for name, status in statuses if name == run.name] == ["FINISHED"]
    assert {status for _, status in statuses} <= {"FINISHED", "FAILED", "KILLED"}
