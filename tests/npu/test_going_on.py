"""Trainings in fp16 that go on after an interruption, on chips that keep infinities and on such
that saturate; with dropout, whose numbers the device draws."""

import pytest
import torch

from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.asking import as_flags
from tests.on_npu import in_turn_on_npu, script_on_npu

UNET = as_flags(netG="unet_128", dropout=True, ngf=2, ndf=2, n_layers_D=1, workers=0)
# So large that the first updates overflow.
FP16 = as_flags(precision="fp16", device="npu", loss_scale_initial=2**24, adam="foreach")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    tiny.dataset(folder, train=2, test=0, input_nc=3)
    return folder


def training(dataset, model, epochs: int) -> list:
    epochs = ["--epochs", epochs, "--epochs-decay", 0]
    return ["train", "--dataset", dataset, "--model", model, *epochs, *UNET, *FP16]


@pytest.fixture(scope="module", params=["910B", "310P"])
def trained(request, tmp_path_factory, pictures):
    """A training of two epochs, and one that was stopped after the first."""
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    commands = [(whole, 2), (parts, 1), (parts, 2)]
    commands = [training(pictures, model, epochs) for model, epochs in commands]
    done = in_turn_on_npu(commands, chip=request.param)
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, whole, parts, done


def test_two_trainings_of_an_epoch_are_one_of_two(trained):
    _, whole, parts, done = trained
    assert "continues after" in done.stdout
    for network in "GD":
        ours, theirs = (load_tensors(at / f"latest_net_{network}.pth") for at in (whole, parts))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), network
        assert all(tensor.isfinite().all() for tensor in ours.values())


def test_the_scale_comes_down_by_the_chip_s_own_scaler(trained):
    """torch's reads infinities on the device; torch_npu's fetches the flag of overflow."""
    chip, _, _, done = trained
    assert "updates skipped, gradients not finite at loss scale" in done.stdout
    assert done.dtypes["aten::convolution"] >= {"float16"} and not done.hf32
    has_of_torch = bool(done.kernels["aten::_amp_update_scale_"])
    assert has_of_torch == (chip == "910B")
    assert bool(done.calls["npu_clear_float_status"]) == (chip == "310P")


SCALES = """
import torch
from shared.device import pick

runtime = pick("npu", "fp16")
of_torch = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
scalers = runtime.scaler(2.0**10, 2.0, 2, 0.5), of_torch
weights = [torch.nn.Parameter(torch.ones(2, device=device)) for device in ("npu", "cpu")]
for is_good in [1, 1, 0, 1, 0, 0, 1, 1, 1, 1]:
    scales = []
    for scaler, weight in zip(scalers, weights):
        optimizer = torch.optim.SGD([weight], lr=0.0)
        loss = scaler.scale(weight.sum())
        if not is_good:  # infinite, or saturated
            loss = loss * (torch.full((), 6e4, device=weight.device).half() * 2).float()
        loss.backward()
        scaler.unscale_(optimizer)
        scaler.update()
        weight.grad = None
        scales.append((scaler.get_scale(), scaler._get_growth_tracker()))
    assert scales[0] == scales[1], scales
print(scales[0][0])
"""


def test_the_scale_of_a_chip_that_saturates_goes_as_torch_s():
    done = script_on_npu(SCALES, chip="310P")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 2.0**10  # up, down three times, up twice
