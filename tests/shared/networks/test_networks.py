"""The networks against a second implementation, and against the key layout of NVIDIA's and junyanz'
checkpoints."""

import io
import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from components.train.networks.discriminators import MultiscaleDiscriminator, build_discriminator
from components.train.networks.init import init_weights
from shared.errors import InputError
from shared.networks.build import build_encoder, build_generator
from shared.networks.checkpoint import load_strictly, save_tensors
from shared.networks.layers import InstanceNorm, instance_norm, reflected, with_picture_statistics
from shared.networks.pix2pix import ResnetGenerator, UnetGenerator
from shared.networks.pix2pixhd import Encoder, GlobalGenerator, LocalEnhancer
from tests import reference, tiny
from tests.twins import NORMS, conv_keys, equals, norm_keys, settled, shapes, weights_only


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_global_generator_equals_reference():
    network = GlobalGenerator(7, ngf=4, n_downsample=3, n_blocks=2)
    x = torch.randn(2, 7, 32, 48)
    assert torch.allclose(network(x), reference.hourglass(network.state_dict(), x, 3, 2), atol=1e-5)


def test_local_enhancer_equals_reference():
    network = LocalEnhancer(
        7, ngf=4, n_downsample_global=2, n_blocks_global=2, n_local_enhancers=1, n_blocks_local=3
    )
    x = torch.randn(2, 7, 32, 48)
    assert torch.allclose(
        network(x), reference.local_enhancer(network.state_dict(), x, 2, 2, 3), atol=1e-5
    )


def test_two_enhancers_run_at_full_size():
    network = LocalEnhancer(
        5, ngf=2, n_downsample_global=1, n_blocks_global=1, n_local_enhancers=2, n_blocks_local=1
    )
    assert network(torch.randn(1, 5, 16, 24)).shape == (1, 3, 16, 24)
    outermost = {id(parameter) for parameter in network.outermost_enhancer()}
    assert outermost == {
        id(p) for name in ("model2_1", "model2_2") for p in network.get_submodule(name).parameters()
    }


def test_encoder_is_an_hourglass_without_blocks():
    network = Encoder(feat_num=3, nef=4, n_downsample=2)
    x = torch.randn(1, 3, 16, 16)
    assert torch.allclose(network(x), reference.hourglass(network.state_dict(), x, 2, 0), atol=1e-5)


# BatchNorm, and the networks of pix2pix.


def test_pix2pixHD_with_batch_norm_equals_reference():
    batch, x = nn.BatchNorm2d, torch.randn(2, 5, 16, 24)
    hourglass, local_enhancer = reference.hourglass, reference.local_enhancer
    equals(
        settled(GlobalGenerator(5, 4, 2, 2, batch)),
        x,
        lambda w, x, t: hourglass(w, x, 2, 2, training=t),
    )
    equals(
        settled(LocalEnhancer(5, 4, 2, 2, 1, 2, batch)),
        x,
        lambda w, x, t: local_enhancer(w, x, 2, 2, 2, t),
    )
    equals(
        settled(Encoder(3, 4, 2, batch)),
        x[:, :3],
        lambda w, x, t: hourglass(w, x, 2, 0, training=t),
    )


@NORMS
@pytest.mark.parametrize("levels, batch_size", [(7, 2), (8, 1)])
def test_unet_equals_reference(levels, batch_size, norm):
    """The bottleneck has one pixel, and with one picture BatchNorm sees four values there."""
    network = settled(UnetGenerator(5, ngf=2, n_downsample=levels, norm=norm, dropout=False))
    x = torch.randn(batch_size, 5, 2**levels, 2**levels)
    equals(network, x, lambda w, x, t: reference.unet(w, x, levels, t))


def test_unet_has_the_gradients_of_in_place_activations():
    network = settled(UnetGenerator(3, ngf=2, n_downsample=6, norm=nn.BatchNorm2d, dropout=False))
    x = torch.randn(2, 3, 64, 64).double()
    weights = dict(network.named_parameters())
    ours = torch.autograd.grad(network(x).square().sum(), weights.values())
    wanted = torch.autograd.grad(reference.unet(weights, x, 6).square().sum(), weights.values())
    torch.testing.assert_close(ours, wanted, atol=1e-9, rtol=1e-9)


@NORMS
@pytest.mark.parametrize("n_blocks", [6, 9])
def test_resnet_equals_reference(n_blocks, norm):
    network = settled(ResnetGenerator(5, ngf=2, n_blocks=n_blocks, norm=norm, dropout=False))
    equals(
        network,
        torch.randn(2, 5, 16, 12),
        lambda w, x, t: reference.hourglass(w, x, 2, n_blocks, training=t),
    )


@pytest.mark.parametrize(
    "make, drops",
    [
        (lambda dropout: UnetGenerator(3, 1, 8, nn.BatchNorm2d, dropout), 3),
        (lambda dropout: UnetGenerator(3, 1, 7, nn.BatchNorm2d, dropout), 2),
        (lambda dropout: ResnetGenerator(3, 1, 9, nn.BatchNorm2d, dropout), 9),
    ],
)
def test_dropout_is_in_the_middle_and_rests_in_evaluation(make, drops):
    """In U-Nets on the levels of 8 ngf channels but the innermost (appendix 6.1.1), in ResNets in
    every block."""
    assert not any(isinstance(module, nn.Dropout) for module in make(False).modules())
    network, x = make(True), torch.randn(1, 3, 256, 256)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [
        0.5
    ] * drops
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_resnet_with_dropout_in_evaluation_equals_reference():
    network = settled(
        ResnetGenerator(5, ngf=2, n_blocks=2, norm=nn.BatchNorm2d, dropout=True)
    ).eval()
    x = torch.randn(1, 5, 8, 8).double()
    torch.testing.assert_close(
        network(x), reference.hourglass(network.state_dict(), x, 2, 2, training=False)
    )


def test_unet_takes_odd_sizes_in_training_and_evaluation():
    network = UnetGenerator(3, ngf=1, n_downsample=7, norm=nn.BatchNorm2d, dropout=True)
    for mode, (height, width) in itertools.product(
        (True, False), ((127, 129), (2, 300), (31, 128))
    ):
        assert network.train(mode)(torch.rand(1, 3, height, width)).shape == (1, 3, height, width)


# Key layouts of the published checkpoints.


UNET_CONVS = {  # unet_128, ngf 4, 5 channels in
    "model.model.0.weight": (4, 5, 4, 4),
    "model.model.1.model.1.weight": (8, 4, 4, 4),
    "model.model.1.model.3.model.1.weight": (16, 8, 4, 4),
    "model.model.1.model.3.model.3.model.1.weight": (32, 16, 4, 4),
    "model.model.1.model.3.model.3.model.3.model.1.weight": (32, 32, 4, 4),
    "model.model.1.model.3.model.3.model.3.model.3.model.1.weight": (32, 32, 4, 4),
    "model.model.1.model.3.model.3.model.3.model.3.model.3.model.1.weight": (32, 32, 4, 4),
    # innermost, in x out
    "model.model.1.model.3.model.3.model.3.model.3.model.3.model.3.weight": (32, 32, 4, 4),
    "model.model.1.model.3.model.3.model.3.model.3.model.5.weight": (64, 32, 4, 4),
    "model.model.1.model.3.model.3.model.3.model.5.weight": (64, 32, 4, 4),
    "model.model.1.model.3.model.3.model.5.weight": (64, 16, 4, 4),
    "model.model.1.model.3.model.5.weight": (32, 8, 4, 4),
    "model.model.1.model.5.weight": (16, 4, 4, 4),
    "model.model.3.weight": (8, 3, 4, 4),
}
UNET_NORMS = [
    "model.model.1.model.2",
    "model.model.1.model.3.model.2",
    "model.model.1.model.3.model.3.model.2",
    "model.model.1.model.3.model.3.model.3.model.2",
    "model.model.1.model.3.model.3.model.3.model.3.model.2",
    "model.model.1.model.3.model.3.model.3.model.3.model.3.model.4",  # innermost
    "model.model.1.model.3.model.3.model.3.model.3.model.6",
    "model.model.1.model.3.model.3.model.3.model.6",
    "model.model.1.model.3.model.3.model.6",
    "model.model.1.model.3.model.6",
    "model.model.1.model.6",
]


@pytest.mark.parametrize("dropout", [True, False])
def test_keys_of_unet(dropout):
    """Without biases where BatchNorm follows; dropout changes no key. InstanceNorm has none, its
    convolutions do."""
    batch = UnetGenerator(5, 4, 7, nn.BatchNorm2d, dropout)
    assert shapes(batch) == UNET_CONVS
    assert batch.state_dict().keys() == UNET_CONVS.keys() | {"model.model.3.bias"} | norm_keys(
        *UNET_NORMS
    )
    instance = UnetGenerator(5, 4, 7, instance_norm, dropout)
    assert shapes(instance) == UNET_CONVS
    assert instance.state_dict().keys() == conv_keys(
        *(key.removesuffix(".weight") for key in UNET_CONVS)
    )


@pytest.mark.parametrize("dropout, second", [(False, 5), (True, 6)])
def test_keys_of_resnet(dropout, second):
    blocks = [f"model.{i}.conv_block" for i in range(10, 19)]
    convs = ["model.1", "model.4", "model.7", "model.19", "model.22"]
    convs += [f"{block}.{i}" for block in blocks for i in (1, second)]
    norms = ["model.2", "model.5", "model.8", "model.20", "model.23"]
    norms += [f"{block}.{i}" for block in blocks for i in (2, second + 1)]
    batch = ResnetGenerator(5, 4, 9, nn.BatchNorm2d, dropout)
    assert batch.state_dict().keys() == weights_only(*convs) | conv_keys("model.26") | norm_keys(
        *norms
    )
    assert ResnetGenerator(5, 4, 9, instance_norm, dropout).state_dict().keys() == conv_keys(
        *convs, "model.26"
    )
    wanted = {
        "model.1.weight": (4, 5, 7, 7),
        "model.4.weight": (8, 4, 3, 3),
        "model.7.weight": (16, 8, 3, 3),
        "model.19.weight": (16, 8, 3, 3),
        "model.22.weight": (8, 4, 3, 3),
        "model.26.weight": (3, 4, 7, 7),
    }
    assert shapes(batch) == wanted | {
        f"{block}.{i}.weight": (16, 16, 3, 3) for block in blocks for i in (1, second)
    }


def test_keys_of_pix2pixHD_with_batch_norm_and_without_feature_layout():
    """All convolutions keep their useless biases, as in NVIDIA's files."""
    generator = GlobalGenerator(5, 4, 2, 1, nn.BatchNorm2d)
    places = ("1", "4", "7", "10.conv_block.1", "10.conv_block.5", "11", "14")
    convs = [f"model.{place}" for place in places]
    places = ("2", "5", "8", "10.conv_block.2", "10.conv_block.6", "12", "15")
    norms = [f"model.{place}" for place in places]
    assert generator.state_dict().keys() == conv_keys(*convs, "model.18") | norm_keys(*norms)

    judges = MultiscaleDiscriminator(6, 4, n_layers=3, num_D=2, features=False)
    assert judges.state_dict().keys() == conv_keys(
        *(f"layer{i}.{j}" for i in (0, 1) for j in (0, 2, 5, 8, 11))
    )
    judges = MultiscaleDiscriminator(6, 4, n_layers=3, num_D=1, norm=nn.BatchNorm2d)
    inner = norm_keys(*(f"scale0_layer{j}.1" for j in (1, 2, 3)))
    assert (
        judges.state_dict().keys() == conv_keys(*(f"scale0_layer{j}.0" for j in range(5))) | inner
    )


@pytest.mark.parametrize(
    "change, parameters",
    [
        (dict(netG="unet_256"), 54_413_955),
        # A level less: 512 -> 512, 1024 -> 512, 2 norms.
        (dict(netG="unet_128"), 54_413_955 - 3 * 2**22 - 2**10 * 2),
        (dict(netG="resnet_9blocks"), 11_383_427),
        (dict(netG="resnet_6blocks"), 11_383_427 - 3 * (2 * 9 * 256**2 + 4 * 256)),
        (dict(netG="resnet_9blocks", norm="instance"), 11_378_179),
    ],
)
def test_sizes_of_the_published_pix2pix_generators(change, parameters):
    """Counts of SEED_FACTS A.6 and PERFORMANCE for three channels in."""
    settings = dict(
        num_labels=0, input_nc=3, use_instances=False, norm="batch", dropout=True, ngf=64
    )
    with torch.device("meta"):
        network = build_generator(tiny.architecture(**settings | change))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert any(isinstance(module, nn.Dropout) for module in network.modules())


@pytest.mark.parametrize("norm, kind", [("batch", nn.BatchNorm2d), ("instance", InstanceNorm)])
@pytest.mark.parametrize("netG", ["global", "local", "unet_128", "resnet_6blocks"])
def test_every_network_has_the_norm_of_its_architecture(netG, norm, kind):
    for netD in ("multiscale", "n_layers", "pixel"):
        a = tiny.architecture(netG=netG, netD=netD, norm=norm, feat_num=2)
        for network in (build_generator(a), build_discriminator(a), build_encoder(a)):
            found = {type(module) for module in network.modules()} & {nn.BatchNorm2d, InstanceNorm}
            assert found == {kind}


@pytest.mark.filterwarnings("ignore")  # tracing is old, and sizes become constants
@pytest.mark.parametrize("height, width", [(128, 128), (70, 131)])
def test_unet_as_an_onnx_graph(height, width):
    """Traced and run by ONNX Runtime, also at a size that is padded, with a batch of another
    size."""
    network = UnetGenerator(3, ngf=2, n_downsample=7, norm=nn.BatchNorm2d, dropout=True)
    network = settled(network).float().eval()
    buffer, one = io.BytesIO(), (torch.rand(1, 3, height, width),)
    names = dict(input_names=["x"], dynamic_axes={"x": {0: "batch"}})
    torch.onnx.export(network, one, buffer, dynamo=False, opset_version=17, **names)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    x = torch.rand(2, 3, height, width)
    (found,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, network(x).detach().numpy(), atol=1e-5)


# Any size.

# Down-samplings by two: 2, 2 + 1 enhancer, 2, 2, 5.
STRIDES = {"global": 4, "local": 8, "encoder": 4, "resnet": 4, "unet": 32}
LEAST = dict.fromkeys(STRIDES, 2) | {"unet": 1}  # strides


def network_of(kind):
    """A network of three input channels, and the same function without any padding, from the tests'
    own layers."""
    torch.manual_seed(0)
    match kind:
        case "global":
            network = GlobalGenerator(3, ngf=2, n_downsample=2, n_blocks=1)
            return network, lambda x: reference.hourglass(network.state_dict(), x, 2, 1)
        case "local":
            blocks = dict(n_blocks_global=1, n_blocks_local=1)
            network = LocalEnhancer(3, 2, n_downsample_global=2, n_local_enhancers=1, **blocks)
            return network, lambda x: reference.local_enhancer(network.state_dict(), x, 2, 1, 1)
        case "encoder":
            network = Encoder(2, nef=2, n_downsample=2)
            return network, lambda x: reference.hourglass(network.state_dict(), x, 2, 0)
        case "resnet":
            network = ResnetGenerator(3, ngf=2, n_blocks=1, norm=instance_norm, dropout=False)
            return network, lambda x: reference.hourglass(network.state_dict(), x, 2, 1)
        case "unet":
            network = UnetGenerator(3, ngf=1, n_downsample=5, norm=instance_norm, dropout=False)
            return network, lambda x: reference.unet(network.state_dict(), x, 5)


@pytest.mark.parametrize("kind", STRIDES)
@settings(max_examples=25, deadline=None)
@given(height=st.integers(2, 70), width=st.integers(2, 70))
def test_any_size_is_reflected_up_to_the_stride_and_cropped_back(kind, height, width):
    """NumPy's reflection takes as many turns as it needs; the smallest side is two strides, of the
    U-Net one."""
    network, plain = network_of(kind)
    network.double()
    x = torch.rand(1, 3, height, width, dtype=torch.float64)
    stride = STRIDES[kind]
    bottom, right = (
        max(LEAST[kind], -(-side // stride)) * stride - side for side in (height, width)
    )
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode="reflect")
    with torch.inference_mode():
        ours, wanted = network(x), plain(torch.from_numpy(padded))[..., :height, :width]
    assert ours.shape[-2:] == (height, width)
    torch.testing.assert_close(ours, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", STRIDES)
@pytest.mark.parametrize("strides", [(0, 0), (0, 1), (3, 2)])
def test_at_multiples_of_the_stride_nothing_is_padded(kind, strides):
    network, _ = network_of(kind)
    x = torch.rand(2, 3, *(STRIDES[kind] * (LEAST[kind] + n) for n in strides))
    assert torch.equal(network(x), (network._enhance if kind == "local" else network.model)(x))


def test_the_default_strides_take_a_thumbnail():
    """Four down-samplings and an enhancer, 32 pixels, on sides far below that."""
    network = LocalEnhancer(
        3, 1, n_downsample_global=4, n_blocks_global=1, n_local_enhancers=1, n_blocks_local=1
    )
    for height, width in ((2, 2), (2, 100), (31, 33), (32, 32)):
        assert network(torch.rand(1, 3, height, width)).shape == (1, 3, height, width)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (2, 3), (5, 40)])
def test_reflection_takes_as_many_turns_as_it_needs(height, width):
    x = torch.rand(2, 3, height, width)
    beyond = ((0, 0), (0, 0), (0, 41 - height), (0, 43 - width))
    padded = torch.from_numpy(np.pad(x.numpy(), beyond, mode="reflect"))
    assert torch.equal(reflected(x, (height, width), (41, 43)), padded)


@pytest.mark.parametrize(("height", "width"), [(13, 18), (3, 2)])
def test_odd_sizes_train(height, width):
    """Gradients flow through padding, in one turn and in several, and crop: the sum by hand."""
    network, plain = network_of("global")
    network.double()
    x = torch.rand(1, 3, height, width, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(network(x).square().sum(), x)
    where = np.arange(height * width).reshape(height, width)
    bottom, right = (max(8, -(-side // 4) * 4) - side for side in (height, width))
    where = torch.from_numpy(np.pad(where, ((0, bottom), (0, right)), mode="reflect"))
    padded = x.flatten(2)[..., where]
    (wanted,) = torch.autograd.grad(plain(padded)[..., :height, :width].square().sum(), x)
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)


# The input of the networks.


@pytest.mark.parametrize("use_instances", [True, False])
@pytest.mark.parametrize("num_labels, input_nc", [(4, 0), (0, 3), (0, 5)])
def test_networks_take_the_channels_of_the_input(num_labels, input_nc, use_instances):
    """Labels or picture, then one edge channel, then features; D sees the photo in their place."""
    architecture = tiny.architecture(
        num_labels=num_labels, input_nc=input_nc, use_instances=use_instances, feat_num=2
    )
    condition = num_labels + input_nc + use_instances
    assert architecture.condition_channels == condition
    assert build_generator(architecture).model[1].in_channels == condition + 2
    assert build_discriminator(architecture).scale0_layer0[0].in_channels == condition + 3
    assert build_encoder(architecture).model[1].in_channels == 3


# The published models, and what stands beside the networks.


@pytest.mark.parametrize(
    "network, parameters, keys",
    [
        (
            lambda: GlobalGenerator(36, 64, 4, 9),
            182_546_755,
            {"model.1.weight", "model.38.bias", "model.24.conv_block.5.bias"},
        ),
        (
            lambda: GlobalGenerator(39, 64, 4, 9),
            182_556_163,
            {"model.13.weight", "model.25.weight", "model.34.bias"},
        ),
        (
            lambda: LocalEnhancer(36, 32, 4, 9, 1, 3),
            182_857_059,
            {"model.34.weight", "model1_1.4.weight", "model1_2.7.bias"},
        ),
        (
            lambda: Encoder(3, 16, 4),
            788_803,
            {"model.1.weight", "model.16.weight", "model.29.bias"},
        ),
        (
            lambda: MultiscaleDiscriminator(39, 64, 3, 2),
            5_603_202,
            {"scale0_layer0.0.weight", "scale1_layer4.0.bias"},
        ),
        (lambda: MultiscaleDiscriminator(39, 64, 3, 3), 8_404_803, {"scale2_layer4.0.weight"}),
    ],
)
def test_sizes_and_keys_of_the_published_models(network, parameters, keys):
    """Counts and names printed from NVIDIA's own modules (SEED_FACTS A)."""
    with torch.device("meta"):
        state = network().state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == parameters
    assert keys <= state.keys()


def test_strict_load_names_what_does_not_fit(tmp_path):
    path = tmp_path / "latest_net_G.pth"
    small, other = GlobalGenerator(3, 2, 1, 1), GlobalGenerator(3, 2, 2, 1)
    save_tensors(path, small.state_dict())
    with pytest.raises(InputError, match="lacks tensor model.10.conv_block.1.bias"):
        load_strictly(other, path)
    with pytest.raises(
        InputError, match=r"model.1.weight is \(2, 3, 7, 7\) but \(4, 3, 7, 7\) is wanted"
    ):
        load_strictly(GlobalGenerator(3, 4, 1, 1), path)


def test_picture_statistics_are_batch_norm_in_training_mode_with_one_picture():
    generator = build_generator(tiny.architecture(netG="unet_128", norm="batch")).apply(
        init_weights
    )
    pictures = torch.rand(3, 36, 128, 128)
    with torch.no_grad():
        wanted = torch.cat([generator.train()(picture[None]) for picture in pictures])
        found = with_picture_statistics(generator.eval())(pictures)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in generator.modules())


def test_instance_norm_of_16_bit_input_has_statistics_of_32_bits():
    """A mean of 100 over 64 * 64 values of bf16, which has 8 bits: its own sum would stand
    still."""
    x = (100 + torch.randn(1, 4, 64, 64)).to(torch.bfloat16)
    wanted = torch.nn.functional.instance_norm(x.float())
    assert (instance_norm(4)(x).float() - wanted).abs().max() < 0.02
    assert torch.equal(instance_norm(4)(x.float()), wanted)


@pytest.mark.parametrize(
    "netG", ["global", "local", "unet_128", "unet_256", "resnet_6blocks", "resnet_9blocks"]
)
def test_the_architecture_knows_the_generators_stride(netG):
    a = tiny.architecture(netG=netG, n_downsample_global=3, n_local_enhancers=2)
    with torch.device("meta"):
        assert a.stride == build_generator(a).stride
