"""NHWC feature maps: the same training as in NCHW, the same files, and a run that changes from one
to the other."""

import types

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from components.train.data.batches import collate
from components.train.devices.exchange import broadcast_weights
from components.train.devices.update import GradientSync
from components.train.devices.world import World
from components.train.networks.build import architecture_for
from components.train.networks.memory import gains_by_nhwc
from components.train.run import run
from components.train.step import Trainer
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import ModelCard
from shared.device import Runtime
from shared.errors import InputError
from shared.networks import layers
from shared.networks.checkpoint import save_tensors, save_weights
from shared.networks.chosen import digest_of
from shared.networks.layers import instance_norm
from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.training import config, trainer_for

PIX2PIX = dict(netD="n_layers", norm="batch", lambda_L1=100.0, lambda_feature_matching=0.0)
CASES = {
    "unet": dict(netG="unet_128", **PIX2PIX),
    "resnet": dict(netG="resnet_6blocks", **PIX2PIX),
    "pix2pixHD": dict(netG="global", instance_features=True),
}
MOMENTS = ("exp_avg", "exp_avg_sq")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    tiny.dataset(folder)
    return folder


def trainer_of(dataset, **options) -> Trainer:
    options = config(**options)
    matches_features = options.lambda_feature_matching > 0
    architecture = architecture_for(options, matches_features, DatasetManifest.read(dataset), None)
    return trainer_for(architecture, options)


def in_nhwc(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", CASES)
def test_a_training_in_nhwc_equals_one_in_nchw(labels, case):
    batch = collate([tiny.pairs(labels)[i] for i in range(2)])
    nchw, nhwc = (
        trainer_of(labels, memory_format=layout, ema_decay=0.9, **CASES[case])
        for layout in ("nchw", "nhwc")
    )
    for _ in range(3):
        wanted, losses = nchw.step(batch), nhwc.step(batch)
        for name, loss in losses.items():
            torch.testing.assert_close(loss, wanted[name], rtol=1e-5, atol=1e-5, msg=name)
    for network in nhwc.published().values():
        assert all(in_nhwc(weight) for weight in network.parameters() if weight.dim() == 4)
    for weight, moments in nhwc.update_G.optimizer.state.items():
        assert weight.stride() == weight.grad.stride() == moments["exp_avg"].stride()
    # Where gradients are 0, Adam follows rounding.
    averages = (trainer.ema.network.parameters() for trainer in (nhwc, nchw))
    for average, wanted in zip(*averages, strict=True):
        torch.testing.assert_close(average, wanted, rtol=0, atol=4e-4)


@pytest.mark.parametrize("images", [1, 2])
def test_a_gradient_in_nhwc_goes_through_instance_norm(images):
    """Of one picture too, where torch's batch_norm behind a view gives another gradient."""
    norm, found = instance_norm(4), []
    for layout in (torch.contiguous_format, torch.channels_last):
        maps = torch.randn(images, 4, 6, 8, generator=torch.Generator().manual_seed(0))
        maps.requires_grad_()
        norm(maps).backward(maps.detach().square().contiguous(memory_format=layout))
        found.append(maps.grad)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Reflection padding takes the form that it has there."""
    monkeypatch.setattr(layers, "pads_to_nchw", lambda device: True)


MAPS = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
CONSTANT = MAPS[:1] * 0 + torch.tensor([0.1, 2.0, -3.0]).view(1, 3, 1, 1)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("dtype, near", [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("maps", [MAPS[:1], MAPS, CONSTANT, torch.cat([MAPS, CONSTANT])])
def test_a_norm_in_nhwc_is_the_one_in_nchw(maps, dtype, near, affine):
    """Of constant pictures too, which become 0 each by itself. Statistics of 16 bits are fp32: the
    exact norm of the rounded maps is as near as its own rounding."""
    norm, found = layers.InstanceNorm(3, affine=affine), []
    towards = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    if affine:
        norm.weight.data, norm.bias.data = torch.tensor([0.5, 2.0, 1.0]), torch.arange(3.0)
    for layout, kind in ((torch.contiguous_format, torch.float32), (torch.channels_last, dtype)):
        x = maps.to(dtype).to(kind).clone(memory_format=layout).requires_grad_()
        y = norm(x)
        y.backward(towards.to(kind).contiguous(memory_format=layout))
        found.append([y, x.grad, *(weight.grad for weight in norm.parameters())])
        norm.zero_grad()
    assert in_nhwc(y) and in_nhwc(x.grad) and y.dtype is dtype
    for wanted, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours.float(), wanted, rtol=near, atol=4 * near)


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (3, 3, 3, 3), (0, 5, 0, 2)])
def test_a_reflection_in_nhwc_is_the_one_in_nchw(as_on_a_gpu, padding):
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = MAPS.clone(memory_format=layout).requires_grad_()
        y = layers.reflect(x, padding)
        y.square().sum().backward()
        assert y.is_contiguous(memory_format=layout)
        assert x.grad.is_contiguous(memory_format=layout)
        found.append((y, x.grad))
        x.grad = None
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-6, atol=1e-6)


def test_maps_of_16_bits_are_reflected_as_they_are():
    """Autocast would pad them in fp32 on a CPU. An element that is seen up to four times gets as
    many gradients, here of 1, which 16 bits add exactly."""
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        x = MAPS.bfloat16().to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layers.ReflectionPad(2)(x)
        y.backward(torch.ones_like(y))
        assert y.dtype is x.grad.dtype is dtype
        found.append((y.float(), x.grad.float()))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


class Conversions(TorchDispatchMode):
    """Operators that make NCHW maps of NHWC ones, or the other way round, and the maps' shapes."""

    def __init__(self):
        super().__init__()
        self.found, self.operators = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.operators += 1
        given = {layout_of(tensor) for tensor in tree_leaves(args)}
        for made in tree_leaves(result):
            changes = {layout_of(made), *given} - {None} == {"nchw", "nhwc"}
            if changes and layout_of(made) and "permute" not in str(function):
                self.found.append((str(function.overloadpacket), tuple(made.shape)))
        return result


def layout_of(tensor: object) -> str | None:
    """None where it is none of maps, or both."""
    is_of_maps = isinstance(tensor, torch.Tensor) and tensor.dim() == 4
    if not is_of_maps or tensor.is_contiguous() == in_nhwc(tensor):
        return None
    return "nhwc" if in_nhwc(tensor) else "nchw"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", ["unet", "resnet", "features", "local"])
def test_in_a_step_every_map_stays_nhwc(labels, as_on_a_gpu, case, precision):
    """Forward and backward, but for the photo that goes into the networks; and for the gradient of
    E's three features, which comes from their means."""
    more = dict(features=dict(instance_features=True), local=dict(netG="local"))
    options = dict(memory_format="nhwc", precision=precision, **(CASES | more)[case])
    trainer = trainer_of(labels, **options)
    size = (128, 128) if case == "unet" else (32, 64)  # it takes multiples of 128
    pairs = tiny.pairs(labels, size=size)
    batch = collate([pairs[i] for i in range(2)])
    trainer.step(batch)
    with Conversions() as conversions:
        trainer.step(batch)
    wanted = [("aten.clone", (2, 3, *size))]
    if case == "features":
        wanted += [("aten.clone", (2, 3, 32, 64)), ("aten.tanh_backward", (2, 3, 32, 64))]
        wanted += [("aten.convolution_backward", shape) for shape in ((2, 4, 38, 70), (3, 4, 7, 7))]
    assert sorted(conversions.found) == sorted(wanted)
    assert conversions.operators > 300


def test_auto_takes_nhwc_where_it_is_known_to_gain():
    def auto(device: str, precision: str, **networks) -> torch.memory_format:
        runtime = Runtime(torch.device(device), precision)
        gains = gains_by_nhwc(tiny.architecture(**networks), runtime)
        return runtime.memory_format("auto", gains)

    resnet = dict(netG="resnet_9blocks", netD="n_layers", norm="batch")
    for networks in (resnet, resnet | dict(norm="instance"), dict(netG="unet_256"), dict()):
        for precision in ("tf32", "bf16", "fp16"):
            assert auto("cuda", precision, **networks) == torch.channels_last
        assert auto("cuda", "fp32", **networks) == torch.contiguous_format
    assert auto("cpu", "fp32", **resnet) == auto("cpu", "bf16", **resnet) == torch.channels_last
    for loses in (dict(norm="instance"), dict(netG="unet_256"), dict(netG="global")):
        assert auto("cpu", "bf16", **resnet | loses) == torch.contiguous_format


def test_an_npu_has_formats_of_its_own():
    npu = Runtime(types.SimpleNamespace(type="npu"), "fp16")
    for wanted in ("auto", "nchw"):
        assert npu.memory_format(wanted, True) == torch.contiguous_format
    with pytest.raises(InputError) as refusal:
        npu.memory_format("nhwc", True)
    assert str(refusal.value) == (
        "--memory-format nhwc means nothing to an NPU, which has memory formats of its own: "
        "leave it out, or say nchw."
    )


def test_files_do_not_tell_the_layout(labels, tmp_path):
    digests = set()
    for layout in ("nchw", "nhwc"):
        trainer = trainer_of(labels, memory_format=layout, **CASES["resnet"])
        digests.add(digest_of(save_weights(tmp_path, trainer.published())))
        trainer.step(collate([tiny.pairs(labels)[0]]))
        save_tensors(tmp_path / "training.pt", trainer.state_dict())
        state = load_tensors(tmp_path / "training.pt")
        of_weights = state["optimizer_G"]["state"].values()
        moments = [of_weight[name] for of_weight in of_weights for name in MOMENTS]
        tensors = [*moments, *state["G"].values(), *state["D"].values()]
        assert all(tensor.is_contiguous() for tensor in tensors)
    assert len(digests) == 1


@pytest.mark.parametrize("first, second", [("nchw", "nhwc"), ("nhwc", "nchw")])
def test_a_run_continues_in_the_other_layout(labels, tmp_path, first, second):
    options = dict(**CASES["resnet"], pool_size=2, ema_decay=0.9, validate_every_epochs=0)
    options |= dict(epochs_decay=0)

    def train(folder: str, layout: str, epochs: int) -> None:
        run(
            labels, tmp_path / folder, config=config(**options, memory_format=layout, epochs=epochs)
        )

    train("whole", "nchw", epochs=2)
    train("changed", first, epochs=1)
    train("changed", second, epochs=2)
    wanted, found = (ModelCard.read(tmp_path / name).metrics for name in ("whole", "changed"))
    for name in ("G_GAN", "G_L1", "D_real", "D_fake", "sample_L1"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-4), name


def test_gradients_of_nhwc_weights_are_averaged_in_place():
    """A group of one that believes to be two: the sum over ranks is the own gradient, the mean half
    of it."""
    layer = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    pictures = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    gradients = torch.autograd.grad(layer(pictures).square().sum(), list(layer.parameters()))
    weight = layer.weight.detach().clone()
    world = World(rank=0, size=2)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        broadcast_weights([layer], world)
        sync = GradientSync(layer.parameters(), world)
        layer(pictures).square().sum().backward()
        sync.wait()
    finally:
        dist.destroy_process_group()
    assert torch.equal(layer.weight, weight) and in_nhwc(layer.weight)
    assert layer.weight.grad.stride() == layer.weight.stride() != gradients[0].contiguous().stride()
    for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient / 2, rtol=1e-6, atol=1e-6)
