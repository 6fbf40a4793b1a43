"""A step that was refused on this machine is not started again, however many attempts the file of
--cluster asks for; one that failed is."""

import io
import sys
from contextlib import nullcontext

import pytest
from kfp import dsl

from shared.pipeline.engines.steps import Engine, StepFailed
from shared.pipeline.runs import begin
from shared.terminal.screen import Screen


class Ends:
    """A `Place` whose steps end with one exit code after the other."""

    def __init__(self, *codes: int):
        self.codes, self.started = list(codes), 0

    def made_ready(self, run, screen):
        return nullcontext()

    def code_of(self, component, compiled):
        return compiled

    def command(self, task, executor):
        self.started += 1
        code = self.codes.pop(0)
        program = f"print('prepare ended: it was {code}.'); raise SystemExit({code})"
        return [sys.executable, "-S", "-c", program], {}

    def explains(self, status):
        return False


@dsl.component(base_image="none", install_kfp_package=False)
def ends():
    pass


@pytest.mark.parametrize("step", ["prepare", "fingerprint"])  # a step of the recipe, and none
@pytest.mark.parametrize(
    "codes, started, code",
    [([2, 2, 2], 1, 2), ([1, 2, 2], 2, 2), ([-9, 1, 1], 3, 1), ([143, 143, 143], 3, 1)],
)
def test_what_was_refused_is_started_once(step, codes, started, code, tmp_path, monkeypatch):
    @dsl.pipeline(name="demo")
    def graph():
        ends().set_retry(2, backoff_duration="0s")

    monkeypatch.setattr("shared.pipeline.engines.steps.step_of", lambda _: step)
    run = begin("demo", {"prepare": {}}, "/raw", {}, {}, tmp_path / "runs")
    place = Ends(*codes)
    engine = Engine(run, Screen(io.StringIO(), io.StringIO()), "off", place)
    with pytest.raises((StepFailed, RuntimeError)), engine.in_charge():
        graph()
    assert (place.started, engine.failure.code) == (started, code)
    if code == 2:
        assert engine.failure.reason == "prepare ended: it was 2."
    if step == "prepare":
        assert run.record.steps[step].state == "failed"


def test_an_attempt_after_a_failure_counts(tmp_path):
    """The run goes on as if nothing had been: kfp.local tells the failure of the last alone."""

    @dsl.pipeline(name="demo")
    def graph():
        ends().set_retry(1, backoff_duration="0s")

    run = begin("demo", {"prepare": {}}, "/raw", {}, {}, tmp_path / "runs")
    engine = Engine(run, Screen(io.StringIO(), io.StringIO()), "off", place := Ends(1, 0))
    with engine.in_charge():
        graph()
    assert place.started == 2 and engine.failure is None
