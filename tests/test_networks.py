"""The networks against a second implementation, and against the key layout of NVIDIA's checkpoints."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.checkpoint import load_strictly, load_tensors, load_vgg, load_what_fits, save_tensors
from shared.errors import InputError
from shared.networks import (
    Encoder,
    GlobalGenerator,
    LocalEnhancer,
    MultiscaleDiscriminator,
    Synthesiser,
    VGG19Features,
    build_discriminator,
    build_encoder,
    build_generator,
    init_weights,
)
from tests import reference, tiny


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_global_generator_equals_reference():
    network = GlobalGenerator(7, ngf=4, n_downsample=3, n_blocks=2)
    x = torch.randn(2, 7, 32, 48)
    assert torch.allclose(network(x), reference.hourglass(network.state_dict(), x, 3, 2), atol=1e-5)


def test_local_enhancer_equals_reference():
    network = LocalEnhancer(7, ngf=4, n_downsample_global=2, n_blocks_global=2, n_local_enhancers=1, n_blocks_local=3)
    x = torch.randn(2, 7, 32, 48)
    assert torch.allclose(network(x), reference.local_enhancer(network.state_dict(), x, 2, 2, 3), atol=1e-5)


def test_two_enhancers_run_at_full_size():
    network = LocalEnhancer(5, ngf=2, n_downsample_global=1, n_blocks_global=1, n_local_enhancers=2, n_blocks_local=1)
    assert network(torch.randn(1, 5, 16, 24)).shape == (1, 3, 16, 24)
    outermost = {id(parameter) for parameter in network.outermost_enhancer()}
    assert outermost == {id(p) for name in ("model2_1", "model2_2") for p in network.get_submodule(name).parameters()}


def test_encoder_is_an_hourglass_without_blocks():
    network = Encoder(feat_num=3, nef=4, n_downsample=2)
    x = torch.randn(1, 3, 16, 16)
    assert torch.allclose(network(x), reference.hourglass(network.state_dict(), x, 2, 0), atol=1e-5)


# Any size.

STRIDES = {"global": 4, "local": 8, "encoder": 4}  # down-samplings by two: 2, 2 + 1 enhancer, 2


def network_of(kind):
    """A network of three input channels, and the same function without any padding, from the tests' own layers."""
    torch.manual_seed(0)
    match kind:
        case "global":
            network = GlobalGenerator(3, ngf=2, n_downsample=2, n_blocks=1)
            return network, lambda x: reference.hourglass(network.state_dict(), x, 2, 1)
        case "local":
            network = LocalEnhancer(
                3, 2, n_downsample_global=2, n_blocks_global=1, n_local_enhancers=1, n_blocks_local=1
            )
            return network, lambda x: reference.local_enhancer(network.state_dict(), x, 2, 1, 1)
        case "encoder":
            network = Encoder(2, nef=2, n_downsample=2)
            return network, lambda x: reference.hourglass(network.state_dict(), x, 2, 0)


@pytest.mark.parametrize("kind", STRIDES)
@settings(max_examples=25, deadline=None)
@given(height=st.integers(2, 70), width=st.integers(2, 70))
def test_any_size_is_reflected_up_to_the_stride_and_cropped_back(kind, height, width):
    """NumPy's reflection takes as many turns as it needs; the smallest side is two strides."""
    network, plain = network_of(kind)
    network.double()
    x = torch.rand(1, 3, height, width, dtype=torch.float64)
    stride = STRIDES[kind]
    bottom, right = (max(2 * stride, -(-side // stride) * stride) - side for side in (height, width))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode="reflect")
    with torch.inference_mode():
        ours, wanted = network(x), plain(torch.from_numpy(padded))[..., :height, :width]
    assert ours.shape[-2:] == (height, width)
    torch.testing.assert_close(ours, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", STRIDES)
@pytest.mark.parametrize("strides", [(2, 2), (2, 3), (5, 4)])
def test_at_multiples_of_the_stride_nothing_is_padded(kind, strides):
    network, _ = network_of(kind)
    x = torch.rand(2, 3, *(STRIDES[kind] * n for n in strides))
    assert torch.equal(network(x), (network._enhance if kind == "local" else network.model)(x))


def test_the_default_strides_take_a_thumbnail():
    """Four down-samplings and an enhancer, 32 pixels, on sides far below that."""
    network = LocalEnhancer(3, 1, n_downsample_global=4, n_blocks_global=1, n_local_enhancers=1, n_blocks_local=1)
    for height, width in ((2, 2), (2, 100), (31, 33), (32, 32)):
        assert network(torch.rand(1, 3, height, width)).shape == (1, 3, height, width)


def test_a_side_of_one_pixel_is_a_mistake_and_no_endless_loop():
    with pytest.raises(AssertionError, match=r"\(1, 64\)"):
        GlobalGenerator(3, 1, 1, 0)(torch.rand(1, 3, 1, 64))


def test_odd_sizes_train():
    """Gradients flow through padding and crop, to the same sum as by hand."""
    network, plain = network_of("global")
    x = torch.rand(1, 3, 13, 18, requires_grad=True)
    (ours,) = torch.autograd.grad(network(x).square().sum(), x)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 3), mode="reflect")
    (wanted,) = torch.autograd.grad(plain(padded)[..., :13, :18].square().sum(), x)
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)


# The deployed function.


@pytest.mark.parametrize("use_instances", [True, False])
@pytest.mark.parametrize("num_labels, input_nc", [(4, 0), (0, 3), (0, 5)])
def test_networks_take_the_channels_of_the_input(num_labels, input_nc, use_instances):
    """Labels or picture, then one edge channel, then features; D sees the photo in their place."""
    architecture = tiny.architecture(num_labels=num_labels, input_nc=input_nc, use_instances=use_instances, feat_num=2)
    condition = num_labels + input_nc + use_instances
    assert architecture.condition_channels == condition
    assert build_generator(architecture).model[1].in_channels == condition + 2
    assert build_discriminator(architecture).scale0_layer0[0].in_channels == condition + 3
    assert build_encoder(architecture).model[1].in_channels == 3


def test_a_picture_goes_in_signed_with_edges_and_one_style_everywhere():
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.integers(0, 256, (2, 5, 6, 7), np.uint8))
    instances = torch.from_numpy(rng.integers(0, 2, (2, 6, 7)).astype(np.int32)) * 70000
    style = torch.tensor([[0.25, -1.0]])
    architecture = tiny.architecture(num_labels=0, input_nc=5, feat_num=2)
    channels = Synthesiser(torch.nn.Identity(), architecture, style)(picture, instances)
    assert torch.equal(channels[:, :5], picture / 127.5 - 1)
    assert torch.equal(channels[:, 5:6], reference.one_hot_and_edges(instances * 0, instances, 1)[:, 1:])
    assert torch.equal(channels[:, 6:], style.view(1, 2, 1, 1).expand(2, 2, 6, 7))


def test_pixels_without_label_have_no_channel_and_take_the_last_style():
    labels = torch.tensor([[[0, 1, 2], [255, 2, 255]]], dtype=torch.uint8)
    style = torch.tensor([[1.0, 10], [2, 20], [3, 30], [9, 90]])
    architecture = tiny.architecture(num_labels=3, use_instances=False, feat_num=2)
    channels = Synthesiser(torch.nn.Identity(), architecture, style)(labels)[0]
    assert channels[:3].sum(dim=0).tolist() == [[1, 1, 1], [0, 1, 0]]
    assert channels[:3].argmax(dim=0)[0].tolist() == [0, 1, 2]
    assert channels[3].tolist() == [[1, 2, 3], [9, 3, 9]] and channels[4].tolist() == [[10, 20, 30], [90, 30, 90]]


# The discriminator and VGG.


def test_discriminator_equals_reference_finest_first():
    network = MultiscaleDiscriminator(6, ndf=4, n_layers=3, num_D=3)
    x = torch.randn(2, 6, 64, 32)
    ours, theirs = network(x), reference.discriminator(network.state_dict(), x, 3, 3)
    assert [len(maps) for maps in ours] == [5, 5, 5]
    for our_maps, their_maps in zip(ours, theirs, strict=True):
        for a, b in zip(our_maps, their_maps, strict=True):
            assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    "network, parameters, keys",
    [
        (
            lambda: GlobalGenerator(36, 64, 4, 9),
            182_546_755,
            {"model.1.weight", "model.38.bias", "model.24.conv_block.5.bias"},
        ),
        (lambda: GlobalGenerator(39, 64, 4, 9), 182_556_163, {"model.13.weight", "model.25.weight", "model.34.bias"}),
        (
            lambda: LocalEnhancer(36, 32, 4, 9, 1, 3),
            182_857_059,
            {"model.34.weight", "model1_1.4.weight", "model1_2.7.bias"},
        ),
        (lambda: Encoder(3, 16, 4), 788_803, {"model.1.weight", "model.16.weight", "model.29.bias"}),
        (lambda: MultiscaleDiscriminator(39, 64, 3, 2), 5_603_202, {"scale0_layer0.0.weight", "scale1_layer4.0.bias"}),
        (lambda: MultiscaleDiscriminator(39, 64, 3, 3), 8_404_803, {"scale2_layer4.0.weight"}),
    ],
)
def test_sizes_and_keys_of_the_published_models(network, parameters, keys):
    """Counts and names printed from NVIDIA's own modules (SEED_FACTS A)."""
    with torch.device("meta"):
        state = network().state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == parameters
    assert keys <= state.keys()


def test_init_is_normal_with_deviation_of_one_fiftieth():
    network = GlobalGenerator(8, 32, 2, 2).apply(init_weights)
    weight = network.model[4].weight
    assert abs(weight.std().item() - 0.02) < 5e-4 and abs(weight.mean().item()) < 5e-4
    assert network.model[4].bias.abs().max() > 0  # torch's own uniform init, as in the reference


def test_vgg_takes_torchvision_weights_and_taps_five_relus(tmp_path):
    vgg = VGG19Features()
    state = {key: torch.randn_like(value) * 0.05 for key, value in vgg.state_dict().items()}
    save_tensors(
        tmp_path / "vgg19.pth", state | {"classifier.0.weight": torch.zeros(2, 2), "features.34.bias": torch.zeros(512)}
    )
    loaded = load_vgg(tmp_path / "vgg19.pth")
    x = torch.randn(1, 3, 32, 32)
    taps, y = [], x
    for block, convs in enumerate((2, 2, 4, 4, 1)):
        for i in range(convs):
            index = (0, 5, 10, 19, 28)[block] + 2 * i
            y = torch.relu(
                torch.nn.functional.conv2d(
                    y, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1
                )
            )
            if i == 0:
                taps.append(y)
        y = torch.nn.functional.max_pool2d(y, 2)
    ours = loaded(x)
    assert len(ours) == 5 and all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, taps, strict=True))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_stage_two_takes_stage_one_weights_and_says_so(tmp_path):
    coarse = build_generator(tiny.architecture(ngf=8))
    fine = build_generator(tiny.architecture(netG="local", ngf=4))
    save_tensors(tmp_path / "latest_net_G.pth", coarse.state_dict())
    report = load_what_fits(fine, tmp_path / "latest_net_G.pth")
    assert not any(key.startswith("model.") for key in report.new)
    assert {key.split(".")[0] for key in report.new} == {"model1_1", "model1_2"}
    assert "left: model.18" in str(report)  # the head of the coarse generator
    for key in report.taken:
        assert torch.equal(fine.state_dict()[key], coarse.state_dict()[key])


def test_strict_load_names_what_does_not_fit(tmp_path):
    path = tmp_path / "latest_net_G.pth"
    small, other = GlobalGenerator(3, 2, 1, 1), GlobalGenerator(3, 2, 2, 1)
    save_tensors(path, small.state_dict())
    with pytest.raises(InputError, match="lacks tensor model.10.conv_block.1.bias"):
        load_strictly(other, path)
    with pytest.raises(InputError, match=r"model.1.weight is \(2, 3, 7, 7\) but \(4, 3, 7, 7\) is wanted"):
        load_strictly(GlobalGenerator(3, 4, 1, 1), path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="is not a file of tensors"):
        load_tensors(path)
