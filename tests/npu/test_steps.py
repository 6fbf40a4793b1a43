"""Every step on the stand-in of an NPU, beside the same on the CPU."""

import pytest
import torch

from components.cluster.__main__ import main as cluster
from components.export.__main__ import main as export
from components.train.__main__ import main as train
from shared.contracts.clusters import ClusterTable
from shared.data.images import read_picture
from shared.device import Runtime
from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.asking import as_flags
from tests.on_npu import in_turn_on_npu

TRAIN = as_flags(**tiny.TRAIN | dict(epochs=1, epochs_decay=0))
SAME = ["--precision", "fp32", "--memory-format", "nchw"]  # bit for bit
MAIN = {"train": train, "cluster": cluster, "export": export}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder)
    return folder


def both_stages(dataset, folder, device) -> list[list]:
    """The steps of a pipeline with features, each a command line."""
    on = ["--device", device]
    one, two, table = folder / "global", folder / "local", folder / "clusters"
    data = ["--dataset", dataset]
    first = ["--instance-features", "--model", one]
    second = ["--netG", "local", "--init-from", one, "--clusters", table, "--model", two]
    second += ["--epochs-fix-global", "0"]
    pictures = ["--model", two, "--clusters", table, "--out", folder / "pictures"]
    return [
        ["train", *data, *first, *TRAIN, *SAME, *on],
        ["cluster", *data, "--model", one, "--clusters", table, "--precision", "fp32", *on],
        ["train", *data, *second, *TRAIN, "--ngf", "2", *SAME, *on],
        ["export", "synthesise", *data, *pictures, "--precision", "fp32", *on],
    ]


@pytest.fixture(scope="module")
def on_both(tmp_path_factory, dataset):
    """The folders of an NPU and of a CPU, and what the NPU did, step by step."""
    npu, cpu = tmp_path_factory.mktemp("npu"), tmp_path_factory.mktemp("cpu")
    done = in_turn_on_npu(both_stages(dataset, npu, "npu"))
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runtime, "has_fused_adam", False)  # Adam in the form that an NPU takes
        for step, *arguments in both_stages(dataset, cpu, "cpu"):
            MAIN[step]([str(word) for word in arguments])
    return npu, cpu, done


@pytest.mark.parametrize("stage", ["global", "local"])
def test_fp32_weights_of_both_stages_are_those_of_the_cpu(on_both, stage):
    npu, cpu, done = on_both
    for network in "GDE" if stage == "global" else "GD":
        ours, theirs = (load_tensors(at / stage / f"latest_net_{network}.pth") for at in (npu, cpu))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), network
    assert not done.unlisted, "look up their dtypes for stand_in/dtypes.csv"
    assert not done.hf32 and done.kernels["aten::convolution_backward"]


def test_clusters_and_pictures_are_those_of_the_cpu(on_both, dataset):
    npu, cpu, _ = on_both
    ours, theirs = (ClusterTable.read(at / "clusters") for at in (npu, cpu))
    assert ours.labels == theirs.labels
    names = sorted(path.name for path in (cpu / "pictures").glob("*.png"))
    assert names
    for name in names:
        ours, theirs = (read_picture(at / "pictures" / name) for at in (npu, cpu))
        assert (ours == theirs).all()
