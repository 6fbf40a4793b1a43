"""How a training goes on whose command, inputs or machine are others than before: a case for each
decision of `continuing.TABLE`, in-process; `test_killed_rows.py` kills a command for each."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.train.config import TrainConfig
from components.train.continuing import (
    CALLED,
    CONTENTS,
    DECIDED,
    TABLE,
    Decision,
    Place,
    compare,
)
from components.train.devices.adam import Adam
from components.train.run import run
from components.train.step import Trainer
from shared.contracts.model import Architecture, ModelCard
from shared.errors import InputError
from shared.flags import as_flag
from shared.networks.checkpoint import save_tensors
from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.places import ROOT
from tests.tiny import one_thread  # noqa: F401 - a fixture
from tests.train.going_on import BASE, EXACTLY, LINES, PAIRS, REFUSALS, Case
from tests.training import config

EXACT, LINE, REFUSED = Decision

STEP = Trainer.step


class Killed(BaseException):
    """What no handler catches."""


@pytest.fixture(autouse=True, scope="module")
def one_code():
    """Whoever edits a file while tests run changes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.train.run.code_version", lambda step: "b2")
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder, train=PAIRS, test=2, height=16, width=24, input_nc=1)
    return folder


def step_before(number: int, then: Callable[[Trainer, Any], None]) -> Callable:
    """A step that does something else as well, before the one of that number."""
    numbers = itertools.count(1)

    def step(trainer, batch):
        if next(numbers) == number:
            then(trainer, batch)
        return STEP(trainer, batch)

    return step


def kill(trainer, batch):
    raise Killed


@pytest.fixture(scope="module")
def stopped(dataset, tmp_path_factory):
    """Copies of trainings that were stopped, by their options."""
    made = {}

    def copy(to: Path, case: Case) -> Path:
        if (key := f"{case.before}{case.within}") not in made:
            made[key] = model = tmp_path_factory.mktemp("stopped") / "model"
            with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
                patch.setattr(Trainer, "step", step_before(PAIRS + 1 + case.within, kill))
                run(dataset, model, config=config(**BASE | case.before))
        shutil.copytree(made[key], to)
        if case.facts:
            file = to / "state" / "training.pt"
            state = load_tensors(file)
            state["facts"] = {} if "" in case.facts else state["facts"] | case.facts
            save_tensors(file, state)
        return to

    return copy


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> str:
    """The digest of a training that was not stopped."""
    model = tmp_path_factory.mktemp("whole")
    run(dataset, model, config=config(**BASE))
    return ModelCard.read(model).digest


@pytest.mark.parametrize("case", LINES.values(), ids=LINES)
def test_it_goes_on_says_so_and_does_it(case, dataset, stopped, tmp_path, monkeypatch, capsys):
    """For a step, which is done with what the case asks for."""
    model, found = stopped(tmp_path / "model", case), []

    def step(trainer, batch):
        if found:
            raise Killed
        found.append(case.effect(trainer, batch))
        return STEP(trainer, batch)

    capsys.readouterr()
    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(Killed):
        run(dataset, model, config=config(**BASE | case.before | case.after))
    assert found == [True]
    lines = [line for line in capsys.readouterr().out.splitlines() if "continues with" in line]
    assert (case.says in "\n".join(lines)) if case.says else not lines, lines


@pytest.mark.parametrize("case", EXACTLY.values(), ids=EXACTLY)
def test_it_goes_on_bit_for_bit(case, dataset, whole, stopped, tmp_path, capsys):
    model = stopped(tmp_path / "model", case)
    capsys.readouterr()
    run(dataset, model, config=config(**BASE | case.before | case.after))
    assert "continues with" not in capsys.readouterr().out
    assert ModelCard.read(model).digest == whole


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_it_is_refused_in_one_sentence(case, dataset, stopped, tmp_path):
    model = stopped(tmp_path / "model", case)
    before = bytes_of(model)
    with pytest.raises(InputError) as refusal:
        run(dataset, model, config=config(**BASE | case.before | case.after))
    sentence = str(refusal.value)
    assert case.says in sentence and f"--model {model}" in sentence
    assert "\n" not in sentence and sentence.endswith(".")
    assert bytes_of(model) == before


# The rest of the table, where this machine has no such device or library.

NOWHERE_HERE = [
    ("compile", "on", LINE),
    ("cuda_graph", True, LINE),
    ("vgg_weights", "b", LINE),
    ("compress_gradients", True, LINE),
    ("lpips_network", "b", LINE),
    ("fid_network", "b", LINE),
    ("epochs_fix_global", 3, LINE),
    *((name, 3, LINE) for name in TrainConfig.model_fields if name.startswith("loss_scale")),
    ("opt_level", "O2", REFUSED),
    ("combine_grad", True, LINE),
    ("model", "b", EXACT),
    ("performance_run", 3, EXACT),
]


@pytest.mark.parametrize(("name", "value", "decision"), NOWHERE_HERE)
def test_what_cannot_be_tried_here_is_decided_as_the_table_says(name, value, decision):
    before = {one: "a" for one in DECIDED} | dict(devices=2, netG="local", precision="fp16")
    before |= dict(amp_backend="apex", best_by="fid")
    found = compare(before, before | {name: value}, Place(Path("M"), 2, is_within=True))
    assert (len(found.lines), len(found.refusals)) == (decision is LINE, decision is REFUSED)
    nothing = dict(devices=1, netG="global", precision="fp32", amp_backend="torch", best_by="L1")
    depends = {row for row in TABLE if not row.applies(before | nothing)}
    if DECIDED[name] in depends:  # where it does nothing it matters to nobody
        before |= nothing
        found = compare(before, before | {name: value}, Place(Path("M"), 2, is_within=True))
        assert found.lines == found.refusals == []


def test_every_option_input_and_fact_has_one_decision():
    names = [name for row in TABLE for name in row.names]
    assert len(names) == len(set(names))
    options = TrainConfig.model_fields.keys() | Architecture.model_fields.keys() - {"D_features"}
    assert set(names) == options | CONTENTS | {*CALLED, "model"}


def test_every_row_has_a_case():
    tried = {name for name, _, _ in NOWHERE_HERE} | {"instance_features"}
    for case in [*REFUSALS.values(), *LINES.values(), *EXACTLY.values()]:
        tried |= {*case.before, *case.after, *case.facts}
    assert [row.names for row in TABLE if not tried & set(row.names)] == []


def shown(name: str) -> str:
    """A name as the README has it."""
    if name == "model":
        return "the place of `--model`"
    if name in CONTENTS:
        return f"what `{as_flag(name)}` holds"
    return CALLED.get(name, f"`{as_flag(name)}`")


def test_the_readme_has_the_table():
    rows = ["| different | the training | |", "|---|---|---|"]
    for row in TABLE:
        becomes = row.decision.value
        if row.within:
            becomes += f"; within an epoch it {row.within.value}"
        if row.where:
            becomes = f"{row.where.replace('--best-by', '`--best-by`')} it {becomes}"
        effect = row.effect.format(epoch="N", rates="the learning rate before and now")
        rows.append(f"| {', '.join(map(shown, row.names))} | {becomes} | {effect} |")
    readme = (ROOT / "components" / "train" / "README.md").read_text()
    assert "\n\n" + "\n".join(rows) + "\n\n" in readme


# The folder.


def test_a_model_without_a_state_is_not_overwritten(dataset, stopped, tmp_path):
    model = stopped(tmp_path / "model", Case())
    shutil.rmtree(model / "state")
    before = bytes_of(model)
    for name in ("model.json", "latest_net_D.pth"):
        with pytest.raises(InputError) as refusal:
            run(dataset, model, config=config(**BASE))
        assert str(refusal.value) == (
            f"--model {model} holds a model but no state/training.pt to go on from, and would be "
            f"overwritten: give an empty folder, with --start-from {model} to begin at these "
            "weights."
        )
        assert bytes_of(model) == before
        before.pop(model / name)
        (model / name).unlink()
    run(dataset, tmp_path / "new", config=config(**BASE | dict(start_from=str(model))))


def test_a_state_that_cannot_be_read_is_one_sentence(dataset, stopped, tmp_path):
    model = stopped(tmp_path / "model", Case())
    file = model / "state" / "training.pt"
    file.with_name("training.before.pt").unlink(missing_ok=True)  # which would be gone on from
    whole, state = file.read_bytes(), load_tensors(file)
    remedy = f"give an empty folder, with --start-from {model} to begin at its weights."
    for content, what in (
        (whole[: len(whole) // 2], "training.pt is cut, a zip file without its end"),
        (b"", "training.pt is empty"),
        (state["G"], "training.pt is no state of this step"),
        (state | {"format": 9}, "was left by a later version of this project (state 9, this one"),
    ):
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            save_tensors(file, content)
        before = bytes_of(model)
        with pytest.raises(InputError) as refusal:
            run(dataset, model, config=config(**BASE))
        sentence = str(refusal.value)
        assert f"--model {model}" in sentence and what in sentence and sentence.endswith(remedy)
        assert bytes_of(model) == before


@pytest.mark.parametrize("lost", ["latest_net_G.pth", "best_net_D.pth", "model.json"])
def test_files_of_a_model_that_are_gone_are_written_again(dataset, stopped, tmp_path, lost):
    """A kill between two of them leaves the state, which is the first."""
    model = stopped(tmp_path / "model", Case(within=False))
    before = bytes_of(model)
    (model / lost).unlink()
    options = config(**BASE | dict(epochs=1, epochs_decay=0))
    run(dataset, model, config=options)
    after = bytes_of(model)
    assert after.keys() == before.keys()
    weights = [path for path in before if path.suffix == ".pth"]
    assert len(weights) == 4 and all(before[path] == after[path] for path in weights)


def test_a_training_that_is_over_leaves_its_folder_alone(dataset, stopped, tmp_path, capsys):
    """Whatever else is asked for now."""
    model = stopped(tmp_path / "model", Case(within=False))
    before = bytes_of(model)
    other = dict(learning_rate=1, size="32x32", seed=5, epochs=1, epochs_decay=0)
    run(dataset, model, config=config(**BASE | other))
    out = capsys.readouterr().out
    assert "already trained for 1 epochs" in out and "continues with" not in out
    assert bytes_of(model) == before


def test_fewer_epochs_than_are_under_way(dataset, stopped, tmp_path):
    """The model of the last whole epoch is there, or it is refused."""
    model = stopped(tmp_path / "model", Case())
    before, options = bytes_of(model), config(**BASE | dict(epochs=1, epochs_decay=0))
    run(dataset, model, config=options)
    assert bytes_of(model) == before
    for path in model.glob("latest_net_*"):
        path.unlink()
    with pytest.raises(InputError) as refusal:
        run(dataset, model, config=options)
    assert str(refusal.value) == (
        f"--model {model} stands within epoch 2, but --epochs ends training after 1: raise it."
    )


def test_a_performance_run_pays_no_attention_to_a_state(dataset, stopped, tmp_path):
    model = stopped(tmp_path / "model", Case())
    (model / "state" / "training.pt").write_bytes(b"")
    before = bytes_of(model)
    run(dataset, model, config=config(**BASE | dict(seed=7, ngf=4, performance_run=1)))
    assert bytes_of(model) == before


def test_a_training_of_stage_two_goes_on_without_what_it_began_at(dataset, stopped, tmp_path):
    """And stays credited to it, when another model stands in its place."""
    parent = stopped(tmp_path / "parent", Case(within=False))
    digest = ModelCard.read(parent).digest
    local = BASE | dict(netG="local", ngf=1, n_blocks_local=0)
    inputs = (dataset, tmp_path / "model", parent)
    run(*inputs, config=config(**local | dict(epochs=1, epochs_decay=0)))
    shutil.rmtree(parent)
    run(*inputs, config=config(**local | dict(epochs=2, epochs_decay=0)))
    run(dataset, parent, config=config(**BASE | dict(seed=9, epochs=1, epochs_decay=0)))
    run(*inputs, config=config(**local | dict(epochs=3, epochs_decay=0)))
    card = ModelCard.read(tmp_path / "model")
    assert (card.epoch, card.parent_digest) == (3, digest)


def test_an_optimiser_goes_on_with_moments_and_with_its_own_options():
    """Also where the one before had another kind of kernel."""
    weights = [torch.ones(3, requires_grad=True) for _ in range(2)]
    before = Adam([weights[0]], lr=1.0, betas=(0.1, 0.2), eps=0.5, fused=False)
    weights[0].grad = torch.tensor([1.0, 2.0, 3.0])
    before.step()
    now = Adam([weights[1]], lr=2.0, betas=(0.5, 0.999), fused=True)
    own = {name: value for name, value in now.param_groups[0].items() if name != "params"}
    now.load_state_dict(before.state_dict())
    assert own == {name: now.param_groups[0][name] for name in own}
    assert torch.equal(now.state[weights[1]]["exp_avg"], 0.9 * weights[0].grad)
    weights[1].grad = torch.zeros(3)
    now.step()
    assert now.state[weights[1]]["step"].item() == 2
