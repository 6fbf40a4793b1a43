"""Every row of the table of `continuing.TABLE` that a command line can ask for on this machine: a
training is killed with -9, another command goes on.

Not here: another kind of device, torch, code or apex, fp16, and VGG's file; see
`test_continuing.py`."""

import shutil
import signal
from pathlib import Path

import onnx
import pytest

from components.cluster.__main__ import main as cluster
from shared.contracts.model import ModelCard
from tests import tiny
from tests.measuring import mean_difference
from tests.train.going_on import BASE, EXACTLY, LINES, PAIRS, REFUSALS, Case
from tests.train.killing import Ended, stands_at, train

# Before which save it is killed, by whether it then stands within the second epoch.
KILLS = {
    True: (f"SIGKILL open .training.pt.partial {PAIRS + 2}", (1, 1)),
    False: (f"SIGKILL open .training.pt.partial {PAIRS + 1}", (1, 0)),
}

# What stands for a path is the name of a fixture's file in capital letters.
LOCAL = dict(netG="local", ngf=1, n_blocks_local=0, init_from="PARENT", pool_size=0)
GIVEN = LOCAL | dict(clusters="CLUSTERS", instance_features=True)
MEASURED = dict(best_by="lpips", lpips_network="DISTANCE")

LINES_HERE = {name: case for name, case in LINES.items() if not case.facts} | {
    "init_from": Case(
        dict(init_from="OTHER"), LOCAL, says="--init-from of other content: no effect"
    ),
    "init_from of grey photos": Case(
        dict(init_from="GREY"), LOCAL, says="--init-from of other content: no effect"
    ),
    "epochs_fix_global": Case(dict(epochs_fix_global=3), LOCAL, says="--epochs-fix-global 3"),
    "devices": Case(dict(devices=2), dict(pool_size=0), says="--devices 2 (was 1): a step has"),
    "compress_gradients": Case(
        dict(compress_gradients=True),
        dict(pool_size=0, devices=2),
        within=False,
        says="--compress-gradients",
    ),
    "lpips_network": Case(
        dict(lpips_network="AGAIN"), MEASURED, says="--lpips-network of other content: the search"
    ),
}
REFUSALS_HERE = {name: case for name, case in REFUSALS.items() if not case.facts} | {
    "dataset": Case(dict(dataset="DATA"), says="cannot go on with --dataset of other content"),
    "clusters": Case(
        dict(clusters="STYLES", init_from="OTHER"),
        GIVEN,
        says="cannot go on with --clusters of other content",
    ),
}
EXACTLY_HERE = {name: case for name, case in EXACTLY.items() if not case.facts}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """All that the commands name, by its name in the cases."""
    made = {name: tmp_path_factory.mktemp("files") / name for name in ("OTHER", "STYLES", "DATA")}
    for name in ("dataset", "PARENT", "CLUSTERS", "DISTANCE", "AGAIN", "GREY"):
        made[name] = made["DATA"].with_name(name)
    pictures = dict(test=2, height=16, width=24)
    tiny.dataset(made["dataset"], train=PAIRS, input_nc=1, **pictures)
    tiny.dataset(made["DATA"], train=PAIRS + 1, input_nc=1, **pictures)

    # Models of stage one, the styles of two, two networks that measure.
    for name, changes in (("PARENT", {}), ("OTHER", dict(seed=2)), ("GREY", dict(output_nc=1))):
        once = BASE | dict(instance_features=True, epochs=1, epochs_decay=0) | changes
        assert train(made["dataset"], made[name], **once).code == 0
    for name, model in (("CLUSTERS", "PARENT"), ("STYLES", "OTHER")):
        given = dict(dataset=made["dataset"], model=made[model], clusters=made[name])
        cluster([*(f"--{flag}={path}" for flag, path in given.items()), "--device=cpu"])
    mean_difference(made["DISTANCE"])
    onnx.save(with_a_word(onnx.load(made["DISTANCE"])), made["AGAIN"])
    return made


def with_a_word(network: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in another file."""
    network.doc_string = "again"
    return network


def command(files: dict[str, Path], model: Path, kill: str = "", **options) -> Ended:
    named = {name: files.get(str(value), value) for name, value in (BASE | options).items()}
    return train(named.pop("dataset", files["dataset"]), model, kill, **named)


@pytest.fixture(scope="module")
def killed(files, tmp_path_factory):
    """Copies of trainings that were killed, by their options."""
    made = {}

    def copy(to: Path, case: Case) -> Path:
        if (key := f"{case.before}{case.within}") not in made:
            made[key] = model = tmp_path_factory.mktemp("killed") / "model"
            kill, place = KILLS[case.within]
            ended = command(files, model, kill, **case.before)
            assert ended.code in (-signal.SIGKILL, 1), ended.said  # 1: of a process of a device
            assert case.before.get("devices") or stands_at(model) == place
        return shutil.copytree(made[key], to)

    return copy


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory) -> str:
    """The digest of a training that was not killed."""
    model = tmp_path_factory.mktemp("whole") / "model"
    assert command(files, model).code == 0
    return ModelCard.read(model).digest


def lines_of(ended: Ended) -> list[str]:
    return [line for line in ended.said.splitlines() if line.startswith("continues with")]


@pytest.mark.slow
@pytest.mark.parametrize("case", LINES_HERE.values(), ids=LINES_HERE)
def test_a_line_says_what_is_different(case, files, killed, tmp_path):
    ended = command(files, killed(tmp_path / "model", case), **case.before | case.after)
    assert ended.code == 0 and "continues after" in ended.said, ended.said
    assert case.says in "\n".join(lines_of(ended)) and lines_of(ended), ended.said


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACTLY_HERE.values(), ids=EXACTLY_HERE)
def test_the_weights_are_those_of_a_training_that_was_not_killed(
    case, files, killed, whole, tmp_path
):
    model = killed(tmp_path / "model", case)
    ended = command(files, model, **case.before | case.after)
    assert ended.code == 0 and "continues after" in ended.said and not lines_of(ended), ended.said
    assert ModelCard.read(model).digest == whole


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSALS_HERE.values(), ids=REFUSALS_HERE)
def test_a_refusal_is_the_last_line_and_changes_nothing(case, files, killed, tmp_path):
    model = killed(tmp_path / "model", case)
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    ended = command(files, model, **case.before | case.after)
    last = ended.said.splitlines()[-1]
    assert ended.code == 2 and ended.read == [] and "Traceback" not in ended.said
    assert last.startswith("train refused: ") and case.says in last and last.endswith(".")
    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before
