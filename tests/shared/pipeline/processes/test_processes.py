"""Steps' processes, real ones: how they speak, end and die, and what is left of them."""

import os
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from shared.pipeline import processes
from shared.pipeline.processes import run_step
from shared.pipeline.processes.locks import hold
from shared.terminal import stopping
from shared.terminal.inner import read_lines
from tests.shared.pipeline.processes.family import ENDLESS, FAMILY, family, is_alive, run

# What a step says.


def test_lines_come_while_the_step_runs_and_the_status_is_its_own():
    heard = []

    def show(line: str) -> None:
        heard.append(line)
        Path("heard").touch()  # what the step waits for after its first line

    program = """
        import sys, time
        from pathlib import Path
        sys.stdout.buffer.write(b"10 %\\r20 %\\r\\nf\\xc3\\xbcnf \\xff\\n")
        while not Path("heard").exists():
            time.sleep(0.01)
        print("warned", file=sys.stderr)
        print("no end of line", end="")
        sys.exit(7)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert run_step(command, dict(os.environ), show) == 7
    assert heard == ["10 %", "20 %", "fünf \ufffd", "warned", "no end of line"]


def test_no_line_is_lost_where_the_machine_is_too_busy_to_read_them_in_time(monkeypatch):
    def read_late(*arguments, **options):
        time.sleep(0.3)
        for one in read_lines(*arguments, **options):
            time.sleep(0.1)
            yield one

    heard = []
    monkeypatch.setattr(processes, "LISTEN_SECONDS", 0.05)
    monkeypatch.setattr(processes, "read_lines", read_late)
    command = [sys.executable, "-c", "print('epoch 3/3'); print('done')"]
    assert run_step(command, dict(os.environ), heard.append) == 0
    assert heard == ["epoch 3/3", "done"]


def test_a_step_has_its_environment_its_files_and_no_input(tmp_path):
    file = os.open("inherited", os.O_RDWR | os.O_CREAT)
    program = f"import os, sys; os.write({file}, (os.environ['A'] + sys.stdin.read()).encode())"
    command = [sys.executable, "-c", program, "it's; $HOME"]
    assert run_step(command, {"A": "b c"}, print, pass_fds=[file]) == 0
    assert Path("inherited").read_text() == "b c"


def test_what_cannot_be_started_fails():
    shown = []
    assert run_step(["no-such-program"], dict(os.environ), shown.append) == 127
    assert "No such file or directory: 'no-such-program'" in shown[-1]


# Its end.


def test_nothing_outlives_a_step_that_has_ended():
    status, _ = run(FAMILY)
    assert status == 0 and not any(map(is_alive, family()))


@pytest.mark.parametrize("exception", [stopping.Stopped(143), SystemExit(1), BrokenPipeError()])
def test_an_exception_of_ours_ends_all(exception):
    def show(_line):
        raise exception

    with pytest.raises(type(exception)):
        run_step([sys.executable, "-c", ENDLESS], dict(os.environ), show)
    assert not any(map(is_alive, family()))


def test_a_step_that_is_stopped_may_close_what_is_open_and_is_heard():
    shown = []

    def show(line: str) -> None:
        shown.append(line)
        if line == "open":
            sys.exit(143)

    program = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            print("open")
            time.sleep(600)
        finally:
            print("much of it " * 100_000)  # more than a pipe holds
            print("closed")
    """
    with pytest.raises(SystemExit):
        run_step([sys.executable, "-c", textwrap.dedent(program)], dict(os.environ), show)
    assert shown[0] == "open" and shown[-1] == "closed"


def test_a_step_that_will_not_stop_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.5)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ENDLESS

    def show(_line):
        raise SystemExit

    with pytest.raises(SystemExit):
        run_step([sys.executable, "-c", stubborn], dict(os.environ), show)
    assert not any(map(is_alive, family()))


def test_kill_9_of_the_pipeline_leaves_nothing_and_no_lock(pipeline):
    pipeline.kill()
    pipeline.wait()
    with hold(Path("lock")):  # waits for what is left
        assert not any(map(is_alive, family()))


def test_kill_9_of_the_guard_leaves_nothing(pipeline):
    (guard,) = psutil.Process(pipeline.pid).children()
    guard.kill()
    assert pipeline.wait(20) == 0
    assert "killed" in pipeline.stdout.read()
    step, child, _ = family()
    assert not is_alive(step) and not is_alive(child)


@pytest.mark.parametrize("stop", stopping.STOPS)
def test_signals_to_the_pipeline_end_all_and_close_it(pipeline, stop):
    pipeline.send_signal(stop)
    time.sleep(0.1)  # for a second one in the middle of its end
    pipeline.send_signal(stop)
    assert pipeline.wait(20) == 128 + stop
    assert pipeline.stdout.read() == "closed\n"
    assert not any(map(is_alive, family()))
