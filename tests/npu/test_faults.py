"""An NPU that fails while a step computes on it, or its collectives do: one sentence, and what was
saved is there."""

import json

import pytest

import components.export.run
from components.export.config import ExportConfig
from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.asking import as_flags, one_sentence
from tests.on_npu import on_npu, script_on_npu

# Faults are met in turn in one process, whose card is well again for each.
SCRIPT = """
import importlib, json, sys
from torch_npu.stand_in import faults

for fault, step, *arguments in json.loads(sys.argv[1]):
    faults.begin(fault)
    print(f"--- {fault}", file=sys.stderr, flush=True)
    try:
        importlib.import_module(f"components.{step}.__main__").main(arguments)
    except SystemExit as end:
        assert end.code == 1, end.code
faults.begin("")
"""
TINY = as_flags(**tiny.TRAIN | dict(epochs=2, epochs_decay=0, validate_every_epochs=0))
FAILS = "the NPU fails (error 507015: The aicore execution is abnormal): look for its fault with"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("faults")
    tiny.dataset(root / "dataset")
    tiny.model(root / "model", tiny.architecture())
    tiny.model(root / "features", tiny.architecture(feat_num=3))
    return root


@pytest.fixture(scope="module")
def said(root) -> dict[str, str]:
    """Standard error of each command, by the fault that it met, and standard output of all."""
    on = ["--dataset", root / "dataset", "--device", "npu"]
    train = ["train", *on, "--model", root / "trained", *TINY]
    clusters, out = ["--clusters", root / "clusters"], ["--out", root / "pictures"]
    commands = {
        "train": ["aten::convolution_backward 200 507015", *train],  # in the second epoch
        "memory": ["aten::convolution 3 memory", *train],
        "another": ["", *train],  # card
        "cluster": ["aten::convolution 2 507015", "cluster", *on, "--model", root / "features"]
        + clusters,
        "synthesise": ["aten::convolution 5 507015", "export", "synthesise", *on, *out]
        + ["--model", root / "model"],
    }
    words = [[str(word) for word in command] for command in commands.values()]
    done = script_on_npu(SCRIPT, json.dumps(words), may_refuse=True)
    assert done.returncode == 0, done.stderr
    parts = [part.partition("\n")[2].strip() for part in done.stderr.split("--- ")[1:]]
    return dict(zip(commands, parts, strict=True)) | {"stdout": done.stdout}


@pytest.mark.parametrize("step", ["train", "cluster", "synthesise"])
def test_a_card_that_fails_in_the_middle_is_one_sentence(said, step):
    """507015 is of a kernel that died."""
    assert one_sentence(said[step]).startswith(f"{step} failed: {FAILS} `npu-smi info`")
    assert "(ASCEND_LAUNCH_BLOCKING=1 shows the line of code) and say" in said[step]
    assert said[step].endswith("what was finished before is kept.")


def test_a_card_without_memory_says_what_to_lower(said):
    sentence = "train failed: the device is out of memory (20.00 MiB more were asked for): give "
    assert one_sentence(said["memory"]).startswith(sentence + "a smaller --crop")


def test_what_was_saved_goes_on_on_a_card_that_is_well(said, root):
    assert said["another"] == "" and "continues after epoch 1 of 2" in said["stdout"]
    state = load_tensors(root / "trained" / "state" / "training.pt")
    assert (state["epoch"], state["images_seen"]) == (2, 8)


@pytest.mark.slow
def test_a_card_that_fails_is_no_fault_of_a_file_that_is_measured(root):
    inputs = root / "model", root / "exported", root / "dataset"
    components.export.run.run(*inputs, config=ExportConfig(parity_samples=1))
    folders = {name: root / name for name in ("model", "exported", "dataset", "report")}
    flags = as_flags(**folders, batch_sizes=[1], rounds=1, warmup=1, device="npu")
    done = on_npu("benchmark", *flags, NPU_STAND_IN_FAULT="aten::tanh 4 507015")
    assert done.returncode == 1 and "1 images" not in done.stdout, done.stdout
    assert one_sentence(done.stderr.strip()).startswith(f"benchmark failed: {FAILS}")
    assert not (root / "report" / "benchmark.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("aten::convolution_backward 30 507899 1", (
            "train failed: rank 1: the NPU fails (error 507899: An internal error occurs in the "
            "Driver module): look for"
        )),
        ("hccl.broadcast 3 9 1", (
            "train failed: rank 1: the processes of this training cannot exchange tensors (HCCL, "
            "HcclBroadcast: error 9): look for"
        )),
    ],
)  # fmt: skip
def test_one_card_of_two_that_fails_is_named(tmp_path, fault, sentence):
    tiny.dataset(tmp_path / "dataset")
    folders = ["--dataset", tmp_path / "dataset", "--model", tmp_path / "model"]
    options = [*TINY, *as_flags(batch_size=2, devices=2, device="npu", precision="fp32")]
    done = on_npu("train", *folders, *options, NPU_STAND_IN_FAULT=fault)
    assert done.returncode == 1 and done.stderr.startswith(sentence), done.stderr
    assert one_sentence(done.stderr.strip())


def test_a_call_of_ours_and_a_line_that_is_asked_for_keep_their_traceback(tmp_path):
    """100000 is what CANN says of a wrong parameter."""
    script = """
import torch
from torch_npu.stand_in import faults
from shared.terminal.device_errors import device_problem

one = torch.ones(1, device="npu")
for code in ("100000", "507015", "107019"):
    faults.begin(f"aten::add.Tensor 1 {code}")
    try:
        one + one
    except RuntimeError as error:
        print(device_problem(error)[:40])
"""
    done = script_on_npu(script)
    task = "the NPU fails (error 107019: Task execut"
    assert done.stdout.splitlines() == ["", FAILS[:40], task], done.stderr
    done = script_on_npu(script, ASCEND_LAUNCH_BLOCKING="1")
    assert done.stdout.splitlines() == ["", "", ""], done.stderr
