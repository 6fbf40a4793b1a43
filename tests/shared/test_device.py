"""The device resolver: what it picks, what it refuses, and that its settings reach the
arithmetic."""

import sys
import types

import pytest
import torch

from shared import device
from shared.errors import InputError

CONSTANTS = dict(initial=65536.0, growth_factor=2.0, growth_interval=2000, backoff_factor=0.5)


def test_cpu_defaults_to_fp32_and_scales_no_loss():
    runtime = device.pick("cpu")
    assert (runtime.name, runtime.precision) == ("cpu", "fp32")
    assert runtime.scaler(**CONSTANTS).scale(torch.tensor(3.0)).item() == 3.0
    assert runtime.peak_memory_mb() > 10
    assert runtime.describe().startswith("cpu (")


@pytest.mark.parametrize(
    "found, precision",
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32")],
)
def test_a_cpu_trains_in_bf16_where_it_multiplies_it(monkeypatch, found, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert device.pick("cpu", trains=True).precision == precision
    assert device.pick("cpu", "fp32", trains=True).precision == "fp32"
    assert device.pick("cpu").precision == "fp32"


def test_constants_of_the_loss_scale_reach_torch_in_fp16_alone():
    mindspore = dict(initial=2.0**32, growth_factor=3.0, growth_interval=1000, backoff_factor=0.8)
    scaler = device.Runtime(torch.device("cpu"), "fp16").scaler(**mindspore)
    assert (scaler.get_scale(), scaler.get_growth_factor()) == (2.0**32, 3.0)
    assert (scaler.get_growth_interval(), scaler.get_backoff_factor()) == (1000, 0.8)
    for precision in ("fp32", "bf16"):
        runtime = device.pick("cpu", precision)
        assert runtime.scaler(**mindspore).get_scale() == 1.0
        assert not runtime.scales_losses


def test_bf16_reaches_convolutions_and_leaves_weights_alone():
    conv = torch.nn.Conv2d(1, 1, 1)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with device.pick("cpu", precision).autocast():
            assert conv(torch.ones(1, 1, 2, 2)).dtype == dtype
    assert conv.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "precision, problem",
    [
        ("tf32", "is an NVIDIA GPU mode, but the device is cpu: use fp32."),
        ("hf32", "is an Ascend NPU mode, but the device is cpu: use fp32."),
        ("fp16", "needs a GPU or NPU, but the device is cpu: use bf16 or fp32."),
    ],
)
def test_precision_that_the_device_lacks_is_refused(precision, problem):
    with pytest.raises(InputError) as refusal:
        device.pick("cpu", precision)
    assert str(refusal.value) == f"--precision {precision} {problem}"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_one_sentence():
    sentence = "--device cuda: torch sees no NVIDIA GPU here; install a CUDA build of torch"
    with pytest.raises(InputError, match=sentence):
        device.pick("cuda")


class OfTorchNpu(torch.amp.GradScaler):
    """Its own GradScaler, as far as it is made."""

    def __init__(self, **constants):
        super().__init__("cpu", **constants)


def fake_npu(monkeypatch, keeps_infinities: bool) -> None:
    utils = types.ModuleType("torch_npu.npu.utils")
    utils.is_support_inf_nan = lambda: keeps_infinities
    npu = types.ModuleType("torch_npu.npu")
    npu.utils, npu.amp = utils, types.SimpleNamespace(GradScaler=OfTorchNpu)
    npu.is_available = npu.is_bf16_supported = lambda: True
    npu.device_count = lambda: 1
    npu.conv = types.SimpleNamespace(allow_hf32=True)
    npu.matmul = types.SimpleNamespace(allow_hf32=False)
    for module in (types.ModuleType("torch_npu"), npu, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    monkeypatch.setattr(torch, "device", lambda name: types.SimpleNamespace(type=name))


@pytest.mark.parametrize("keeps_infinities", [True, False])
def test_npu_takes_fp16_and_the_scaler_that_sees_saturation(monkeypatch, keeps_infinities):
    """By what torch_npu says of infinities: an environment may make a new chip saturate."""
    fake_npu(monkeypatch, keeps_infinities)
    runtime = device.pick("auto")
    assert (runtime.name, runtime.precision) == ("npu", "fp16")
    scaler = runtime.scaler(**CONSTANTS)
    assert isinstance(scaler, OfTorchNpu) is not keeps_infinities
    assert (scaler.get_scale(), scaler.get_growth_interval()) == (65536.0, 2000)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_gpu_rounds_fp32_for_the_runtime_that_computes_not_the_one_picked_last():
    """Runtimes of several precisions stand beside each other in the benchmark."""
    x, conv = torch.randn(1, 64, 32, 32, device="cuda"), torch.nn.Conv2d(64, 64, 3).cuda()
    exact = torch.nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double())
    runtimes = [device.pick("cuda", precision) for precision in ("fp32", "tf32", "bf16")]
    errors = []
    for runtime in runtimes:
        with runtime.autocast():
            errors.append((conv(x).double() - exact).abs().max().item())
    assert errors[0] < 1e-5 < errors[1] < errors[2]
    with runtimes[1].autocast(), device.in_fp32("cuda"):
        assert (conv(x).double() - exact).abs().max() < 1e-5
    assert torch.backends.cudnn.allow_tf32  # as it was around


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_gpu_runs_every_precision(precision):
    runtime = device.pick("cuda", precision)
    x = torch.randn(1, 64, 32, 32, device="cuda")
    conv = torch.nn.Conv2d(64, 64, 3).cuda()
    with runtime.autocast():
        y = conv(x)
    exact = torch.nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double())
    limit = {"fp32": 1e-5, "tf32": 5e-3, "bf16": 5e-2, "fp16": 5e-3}[precision]
    assert (y.double() - exact).abs().max() < limit
    runtime.synchronize()
    assert runtime.peak_memory_mb() > 0
