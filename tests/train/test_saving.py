"""When a training saves, and that its steps do not wait for the disk."""

import copy
import errno
import hashlib
import io
import threading

import pytest
import torch

from components.train.__main__ import main
from components.train.run import run
from components.train.saved.snapshot import snapshot
from components.train.saved.state import state_file
from components.train.step import Trainer
from shared.networks.checkpoint import TensorFile
from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.asking import as_flags
from tests.training import config

PAIRS = 4  # steps of an epoch


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder, train=PAIRS, input_nc=3)
    return folder


def options(**changes):
    values = dict(epochs=2, epochs_decay=0, validate_every_epochs=0, log_every_steps=1)
    return config(**values | changes)


@pytest.fixture
def steps_seen(monkeypatch):
    """The number of pairs after each save and step, in order: (what, images seen)."""
    seen, step, write_to = [], Trainer.step, TensorFile.write_to

    def counted(trainer, batch):
        losses = step(trainer, batch)
        seen.append(("step", trainer.images_seen))
        return losses

    def told(content, file):
        if "images_seen" in content.content:
            seen.append(("state", content.content["images_seen"]))
        write_to(content, file)

    monkeypatch.setattr(Trainer, "step", counted)
    monkeypatch.setattr(TensorFile, "write_to", told)
    return seen


def saves(seen):
    return sorted(count for what, count in seen if what == "state")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (dict(save_every_minutes=1e-9), [1, 2, 3, 4, 5, 6, 7, 8]),
        (dict(save_every_minutes=1e-9, log_every_steps=2), [2, 4, 6, 8]),
        (dict(save_every_minutes=60.0), [8]),
        (dict(save_every_minutes=60.0, keep_checkpoints=2), [4, 8]),
        (dict(save_every_minutes=60.0, validate_every_epochs=1), [4, 8]),  # the first is the best
        (dict(save_every_minutes=0.0), [4, 8]),
        (dict(save_every_minutes=0.0, save_every_epochs=2), [8]),
        (dict(save_every_minutes=60.0, save_every_steps=3), [3, 7, 8]),
    ],
)
def test_a_state_is_saved_by_minutes_epochs_and_steps(
    asked, expected, dataset, tmp_path, steps_seen
):
    run(dataset, tmp_path, config=options(**asked))
    found = saves(steps_seen)
    if asked.get("validate_every_epochs"):  # the second may be the best, or not: it is the last
        assert found[0] == 4 and found[-1] == 8
    else:
        assert found == expected


@pytest.mark.parametrize(("minutes", "expected"), [(0.0, [0, 1, 2, 3]), (60.0, [0, 3])])
def test_sample_pictures_come_by_minutes(minutes, expected, dataset, tmp_path):
    run(dataset, tmp_path, config=options(epochs=3, sample_every_minutes=minutes))
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == [f"epoch_{epoch:04d}.png" for epoch in expected]


def test_steps_go_on_while_a_state_is_written_as_it_was(dataset, tmp_path, monkeypatch):
    """The disk takes the state of the first step when the second is done."""
    written, write_to, done = [], TensorFile.write_to, threading.Event()

    def late(content, file):
        if "images_seen" in content.content and content.content["images_seen"] == 1:
            assert done.wait(60), "the steps wait for the disk"
            written.append(content.content)
        write_to(content, file)

    true, step = {}, Trainer.step

    def watched(trainer, batch):
        losses = step(trainer, batch)
        if trainer.images_seen == 1:
            true.update(copy.deepcopy(trainer.state_dict()))
        if trainer.images_seen == 2:
            done.set()
        return losses

    monkeypatch.setattr(TensorFile, "write_to", late)
    monkeypatch.setattr(Trainer, "step", watched)
    run(dataset, tmp_path, config=options(epochs=1, save_every_steps=1))
    (state,) = written
    for name in ("G", "D"):
        assert all(torch.equal(state[name][key], true[name][key]) for key in true[name])
    moments = true["optimizer_G"]["state"]
    assert moments and all(
        torch.equal(state["optimizer_G"]["state"][i][key], moments[i][key])
        for i in moments
        for key in moments[i]
    )


@pytest.mark.parametrize("at", [1, 3])
def test_a_disk_that_is_full_meanwhile_is_told(at, dataset, tmp_path, monkeypatch, capsys):
    """Of a save within an epoch, while steps go on; and of the last one."""
    write_to, count = TensorFile.write_to, [0]

    def full(content, file):
        if "images_seen" in content.content:
            count[0] += 1
            if count[0] > at:
                file.write(bytes(100))
                raise OSError(errno.ENOSPC, "No space left on device")
        write_to(content, file)

    monkeypatch.setattr(TensorFile, "write_to", full)
    flags = dict(dataset=dataset, model=tmp_path / "model", **tiny.TRAIN, save_every_steps=1)
    with pytest.raises(SystemExit) as end:
        main(as_flags(**flags, epochs=1, epochs_decay=0, device="cpu"))
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"train failed: --model {tmp_path}/model/state/training.pt needs ")
    assert said.count("\n") == 1
    assert load_tensors(state_file(tmp_path / "model"))["images_seen"] == at
    left = {path.name for path in (tmp_path / "model" / "state").iterdir()}
    assert left <= {"training.pt", "training.before.pt"}


def test_tensors_are_streamed_as_torch_saves_them():
    content = {"a": torch.randn(30, 40), "b": [torch.arange(3), {"c": torch.tensor(2.0)}], "d": 3}
    whole, streamed = io.BytesIO(), io.BytesIO()
    torch.save(content, whole)
    file = TensorFile(content)
    file.write_to(streamed)
    assert streamed.getvalue() == whole.getvalue()
    assert file.sha256 == hashlib.sha256(whole.getvalue()).hexdigest()
    assert file.nbytes == 4 * 1200 + 8 * 3 + 4


def test_a_disk_that_is_full_says_so_by_torch_too():
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    with pytest.raises(OSError, match="No space left"):
        TensorFile({"a": torch.zeros(1000)}).write_to(Full())


def test_a_snapshot_copies_once_what_stands_in_it_twice():
    weights = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    copied = snapshot({"state": {"G": weights}, "model": [weights.detach(), weights[:2]], "n": 1})
    one, (two, part) = copied["state"]["G"], copied["model"]
    assert one is two and torch.equal(one, weights) and one.data_ptr() != weights.data_ptr()
    assert torch.equal(part, weights[:2]) and part.data_ptr() != one.data_ptr()
    weights.zero_()
    assert one.abs().sum() > 0 and copied["n"] == 1
