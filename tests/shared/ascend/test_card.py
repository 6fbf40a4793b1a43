"""What a card computes in, by its chip, and how it is set up."""

import types

import pytest
import torch

from shared.ascend import card
from shared.errors import InputError
from tests import tiny
from tests.asking import as_flags
from tests.on_npu import on_npu, script_on_npu

PRECISIONS = """
from shared.device import pick
from shared.errors import InputError
for asked in ("auto", "fp16", "bf16", "hf32", "tf32"):
    try:
        runtime = pick("npu", asked)
        with runtime.autocast():
            dtype = torch.nn.functional.conv2d(*2 * [torch.ones(1, 1, 1, 1, device="npu")]).dtype
        print(asked, "is", runtime.precision, dtype)
    except InputError as refusal:
        print(refusal)
"""


def lines_on(chip: str, script: str) -> list[str]:
    done = script_on_npu(f"import torch{script}", chip=chip)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("chip, name", [("910", "Ascend910A"), ("310P", "Ascend310P3")])
def test_a_chip_refuses_what_it_lacks_instead_of_computing_in_something_else(chip, name):
    assert lines_on(chip, PRECISIONS) == [
        "auto is fp16 torch.float16",
        "fp16 is fp16 torch.float16",
        f"--precision bf16: this {name} has no bf16, for which torch_npu would compute in fp32 "
        "without an error: use fp16.",
        f"--precision hf32: this {name} has no HF32, which came with Ascend910B: use fp16.",
        "--precision tf32 is an NVIDIA GPU mode, but the device is npu: use hf32 or fp32.",
    ]


def test_chips_from_910B_on_have_bf16_and_hf32():
    assert lines_on("910B", PRECISIONS)[:4] == [
        "auto is fp16 torch.float16",
        "fp16 is fp16 torch.float16",
        "bf16 is bf16 torch.bfloat16",
        "hf32 is hf32 torch.float32",
    ]


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
