"""The docker engine: the graph in real containers, of images built from this checkout. Takes
minutes; needs Docker or Podman.

BASE_IMAGE and BUILD_FLAGS adapt the build to a machine without image registry; BUILT_IMAGES names
images that are there already, as --images does."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from shared.errors import InputError
from shared.pipeline.engines.daemon import RUN, TASK, connect, ours
from shared.pipeline.processes import GUARD
from tests.calling import command, environment
from tests.places import ROOT, STEPS
from tests.shared.pipeline.engines.built import build_flags, skip_where_nothing_can_be_built
from tests.shared.pipeline.killing import written_by_steps

pytestmark = [pytest.mark.containers, pytest.mark.slow]

RECIPE = """
    prepare.size=32x64 train_global.size=32x64 train_global.epochs=2 train_global.epochs_decay=0
    train_global.ngf=8 train_global.save_every_steps=2 train_local.ngf=4 train_local.size=32x64
    train_local.epochs=1 train_local.epochs_decay=0 train_local.epochs_fix_global=0
    benchmark.batch_sizes=[1] benchmark.rounds=2
""".split()
WAIT_SECONDS = 900
SAMPLES = ROOT.parent / "shared" / "data" / "cityscapes_samples"
CITYSCAPES = Path(os.environ.get("CITYSCAPES_SAMPLES", SAMPLES))


@pytest.fixture(scope="module")
def client():
    try:
        with closing(connect()) as client:
            yield client
    except InputError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def images(client, tmp_path_factory) -> str:
    """What --images is given."""
    if built := os.environ.get("BUILT_IMAGES"):
        return built
    file = tmp_path_factory.mktemp("images") / "images.cpu.json"
    build = [sys.executable, "-m", "shared.pipeline.images.build", "--out", str(file)]
    build += ["--tag", "tested", *build_flags(), "--only", *STEPS]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    skip_where_nothing_can_be_built(done)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return str(file)


@pytest.fixture
def folder(tmp_path):
    """A working directory with blanks and a quote in its path."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    return folder


def start(folder: Path, *words) -> subprocess.Popen:
    with open(folder / "said.txt", "a") as said:
        options = dict(stdout=said, stderr=said, cwd=folder, env=environment())
        return subprocess.Popen(command("submit", *words), **options)


def run(folder: Path, *words) -> tuple[int, str]:
    """Exit code, and all that was said."""
    code = start(folder, *words).wait(WAIT_SECONDS)
    return code, (folder / "said.txt").read_text()


def in_containers(images: str, scenes: Path) -> list:
    docker = ["--engine", "docker", "--images", images, "--raw-data", scenes]
    return [*docker, "--set", *RECIPE]


def record(folder: Path) -> dict:
    files = sorted(folder.glob("runs/*/run.json"))
    return json.loads(files[-1].read_text()) if files else {}


def wait_until(is_so, process: subprocess.Popen, folder: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        said = (folder / "said.txt").read_text()[-2000:]
        assert process.poll() is None and time.monotonic() < deadline, said
        time.sleep(0.05)


def in_training(client, folder: Path):
    """The container of the first training, once it has saved its state; else None."""
    states = folder.glob("runs/*/train-global/model/state/*")
    if not any(states):
        return None
    found = [one for one in ours(client, TASK) if one.labels[TASK].endswith("/train-global")]
    return next((one for one in found if one.labels[RUN].startswith(str(folder))), None)


def left(client, folder: Path) -> list[str]:
    return [one.labels[TASK] for one in ours(client, RUN) if str(folder) in one.labels[RUN]]


def results(run: Path) -> dict[str, str]:
    """All but the benchmark, which has the champion of its time beside it; of the state before the
    last one the name alone: when it was saved depends on kills."""
    found = written_by_steps(run)
    found |= {name: "" for name in found if name.endswith("/training.before.pt")}
    left_out = ("__pycache__", "benchmark/")
    return {name: found[name] for name in found if not any(one in name for one in left_out)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, images, scenes) -> Path:
    """A run in containers that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("it's undisturbed")
    code, said = run(folder, *in_containers(images, scenes))
    assert code == 0, said[-3000:]
    return folder


def test_both_engines_make_the_same_and_take_over_from_each_other(undisturbed, scenes, client):
    """Every file of every step but for times, and the runs in MLflow."""
    assert left(client, undisturbed) == []
    (ours_,) = undisturbed.glob("runs/demo-*")
    embedded = ["--raw-data", scenes, "--set", *RECIPE]
    code, said = run(undisturbed, *embedded)
    assert code == 0 and said.count("taken over from") == 6, said[-3000:]
    code, said = run(undisturbed, "--reuse", "off", *embedded)
    assert code == 0, said[-3000:]
    *_, theirs = sorted(undisturbed.glob("runs/demo-*"))
    assert results(theirs) == results(ours_)

    seconds = {}
    for one in (theirs, ours_):
        steps = json.loads((one / "run.json").read_text())["steps"]
        seconds[one] = {step: state["seconds"] for step, state in steps.items()}
    for step in seconds[ours_]:
        print(f"{step}: {seconds[theirs][step]} s embedded, {seconds[ours_][step]} s in containers")


@pytest.mark.skipif(not CITYSCAPES.is_dir(), reason=f"no photographs in {CITYSCAPES}")
def test_both_engines_make_the_same_of_photographs(folder, images):
    code, said = run(folder, *in_containers(images, CITYSCAPES))
    assert code == 0, said[-3000:]
    code, said = run(folder, "--reuse", "off", "--raw-data", CITYSCAPES, "--set", *RECIPE)
    assert code == 0, said[-3000:]
    first, second = sorted(folder.glob("runs/*/run.json"))
    assert results(first.parent) == results(second.parent)


def test_a_killed_step_is_started_again_and_goes_on(folder, images, scenes, client, undisturbed):
    """Where the cluster's file asks for another attempt: the training ends with the weights of one
    that nobody has killed."""
    (folder / "cluster.yaml").write_text("steps: {train_global: {retries: 1, backoff_s: 0}}\n")
    pipeline = start(folder, "--cluster", "cluster.yaml", *in_containers(images, scenes))
    wait_until(lambda: in_training(client, folder), pipeline, folder)
    in_training(client, folder).kill("SIGKILL")
    assert pipeline.wait(WAIT_SECONDS) == 0, (folder / "said.txt").read_text()[-3000:]
    said = (folder / "said.txt").read_text()
    assert "killed from outside (SIGKILL)" in said and "continues after" in said
    first, *_ = sorted(undisturbed.glob("runs/demo-*[0-9]"))
    (second,) = folder.glob("runs/demo-*[0-9]")
    assert results(second) == results(first) and left(client, folder) == []


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_pipeline_leaves_no_container(stop, folder, images, scenes, client):
    pipeline = start(folder, *in_containers(images, scenes))
    wait_until(lambda: in_training(client, folder), pipeline, folder)
    pipeline.send_signal(stop)
    assert pipeline.wait(60) == (-stop if stop == signal.SIGKILL else 128 + stop)
    deadline = time.monotonic() + 30
    while left(client, folder):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    if stop == signal.SIGKILL:
        code, said = run(folder, "--continue", "latest")
        assert code == 0 and "continues after" in said, said[-3000:]
        assert record(folder)["engine"]["engine"] == "docker"


def test_a_container_that_all_its_guards_have_left_is_removed_at_the_next_start(
    folder, images, scenes, client
):
    pipeline = start(folder, *in_containers(images, scenes))
    wait_until(lambda: in_training(client, folder), pipeline, folder)
    below = psutil.Process(pipeline.pid).children(recursive=True)
    assert any(str(GUARD) in one.cmdline() for one in below)
    for one in (psutil.Process(pipeline.pid), *below):
        one.kill()
    pipeline.wait()
    assert len(left(client, folder)) == 1
    code, said = run(folder, "--continue", "latest")
    assert code == 0 and "removed the container that" in said, said[-3000:]


def test_a_removed_container_is_one_sentence(folder, images, scenes, client):
    pipeline = start(folder, *in_containers(images, scenes))
    wait_until(lambda: in_training(client, folder), pipeline, folder)
    in_training(client, folder).remove(force=True)
    assert pipeline.wait(WAIT_SECONDS) == 1
    said = (folder / "said.txt").read_text()
    assert "step train_global failed: killed from outside" in said and "Traceback" not in said
    assert record(folder)["steps"]["train_global"]["state"] == "failed"


def test_a_container_without_memory_is_one_sentence(folder, images, scenes):
    code, said = run(folder, "--container-memory-gb", 0.25, *in_containers(images, scenes))
    assert code == 1 and "--container-memory-gb" in said and "Traceback" not in said, said[-3000:]
    assert "killed by the system for want of memory: its container may have 0.25 GiB" in said


def test_a_missing_image_is_one_sentence_before_work(folder, scenes, client):
    code, said = run(folder, *in_containers("localhost/nobody:has-it", scenes))
    assert code == 2 and "there is no image localhost/nobody-train:has-it: `make images" in said
    assert record(folder) == {} and "Traceback" not in said
