"""What takes longest on the stand-in of an NPU: two cards."""

import pytest

from tests import tiny
from tests.asking import as_flags
from tests.on_npu import on_npu

pytestmark = pytest.mark.slow


def test_two_cards_train_one_model(tmp_path):
    """Each process on its own card; gradients and weights go by hccl alone, which takes tensors of
    the device only."""
    tiny.dataset(tmp_path / "dataset")
    options = as_flags(**tiny.TRAIN | dict(epochs=1, epochs_decay=0, batch_size=2, devices=2))
    folders = ["--dataset", tmp_path / "dataset", "--model", tmp_path / "model"]
    done = on_npu("train", *folders, *options, "--device", "npu", "--precision", "fp32")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"set_device(0)", "set_device(1)"} <= done.calls.keys()
    assert done.calls["hccl.allreduce"] and done.calls["hccl.broadcast"]
    assert done.copies["npu->cpu"] and (tmp_path / "model" / "latest_net_G.pth").is_file()
