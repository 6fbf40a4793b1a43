"""What a card computes in, by its chip, and how it is set up."""

import sys
import types

import pytest
import torch

from shared.ascend import card
from shared.errors import InputError
from tests import tiny
from tests.asking import as_flags
from tests.on_npu import on_npu, run

PRECISIONS = """
import sys
from shared.device import pick
from shared.errors import InputError
import torch
for asked in ("auto", "bf16", "hf32", "tf32", "fp32", "fp16"):
    try:
        runtime = pick("npu", asked)
        with runtime.autocast():
            dtype = torch.nn.functional.conv2d(*2 * [torch.ones(1, 1, 1, 1, device="npu")]).dtype
        print(asked, "is", runtime.precision, dtype)
    except InputError as refusal:
        print(refusal)
"""


def picked_on(chip: str) -> tuple[list[str], dict]:
    """What came of each precision, and what the process did; an owner has set one variable."""
    done = run([sys.executable, "-c", PRECISIONS], 100, chip=chip, HCCL_CONNECT_TIMEOUT="1800")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.processes[0]


def test_a_chip_refuses_what_it_lacks_instead_of_computing_in_something_else():
    lines, process = picked_on("910")
    assert lines == [
        "auto is fp16 torch.float16",
        "--precision bf16: this Ascend910A has no bf16, for which torch_npu would compute in fp32 "
        "without an error: use fp16.",
        "--precision hf32: this Ascend910A has no HF32, which came with Ascend910B: use fp16.",
        "--precision tf32 is an NVIDIA GPU mode, but the device is npu: use hf32 or fp32.",
        "--precision fp32: this Ascend910A has no convolutions of fp32 (aten::convolution: aclnn "
        "failed, error code is 161002: KEEP_DTYPE of FLOAT): use fp16.",
        "fp16 is fp16 torch.float16",
    ]
    assert process["fp16_cubes"] == {}  # nothing that was fp32 became fp16 in silence


def test_chips_from_910B_on_have_all_and_the_card_is_set_up_before_torch_npu_is_loaded():
    lines, process = picked_on("910B")
    assert lines == [
        "auto is fp16 torch.float16",
        "bf16 is bf16 torch.bfloat16",
        "hf32 is hf32 torch.float32",
        "--precision tf32 is an NVIDIA GPU mode, but the device is npu: use hf32 or fp32.",
        "fp32 is fp32 torch.float32",
        "fp16 is fp16 torch.float16",
    ]
    assert process["hf32"] == {"aten::convolution": 1}  # of the one that asked for it
    said = {"jit_compile": False, "allow_internal_format": False, "conv.allow_hf32": False}
    assert said.items() <= process["options"].items()
    found = process["environment"]
    assert found["HCCL_CONNECT_TIMEOUT"] == "1800"  # an owner's
    assert found["TASK_QUEUE_ENABLE"] == "1"
    assert found["PYTORCH_NPU_ALLOC_CONF"] == "expandable_segments:True"
    assert found["ACL_OP_COMPILER_CACHE_DIR"].endswith("/pix2pix-pipeline/npu-operators")


def npu(monkeypatch, has_fp32: bool) -> list[dict]:
    """A chip before 910B in place of torch.npu; returns the options that it is given."""
    options: list[dict] = []

    def convolve(*_):
        if not has_fp32:
            raise RuntimeError("aclnnConvolution failed,\n error code is 161002")
        return torch.zeros(1)

    monkeypatch.setattr(
        torch,
        "npu",
        types.SimpleNamespace(
            is_bf16_supported=lambda: False,
            get_device_name=lambda _: "Ascend910A",
            set_option=options.append,
        ),
        raising=False,
    )
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device=None: ones(size))
    monkeypatch.setattr(torch.nn.functional, "conv2d", convolve)
    return options


def test_a_chip_that_gives_fp16_to_convolutions_of_fp32_is_told_not_to(monkeypatch):
    options = npu(monkeypatch, has_fp32=True)
    card.keep_fp32()
    assert options == [{"ACL_PRECISION_MODE": "must_keep_origin_dtype"}]


def test_fp32_is_refused_where_the_chip_then_has_no_convolution(monkeypatch):
    options = npu(monkeypatch, has_fp32=False)
    with pytest.raises(InputError) as refusal:
        card.keep_fp32()
    assert str(refusal.value) == (
        "--precision fp32: this Ascend910A has no convolutions of fp32 (aclnnConvolution failed, "
        "error code is 161002): use fp16."
    )
    assert options[-1] == {"ACL_PRECISION_MODE": "allow_fp32_to_fp16"}  # fp16 goes on as before


def test_gradients_are_not_sent_as_what_the_chip_has_not(tmp_path):
    tiny.dataset(tmp_path / "dataset")
    words = as_flags(dataset=tmp_path / "dataset", model=tmp_path / "model", device="npu")
    done = on_npu("train", *words, "--compress-gradients", chip="310P")
    sentence = "--compress-gradients sends bf16, which Ascend310P3 has not: leave it out."
    assert (done.returncode, done.stderr) == (2, f"train refused: {sentence}\n")
    assert not (tmp_path / "model").exists()
