"""The networks against a second implementation, and against the key layout of NVIDIA's checkpoints."""

import pytest
import torch

from shared.checkpoint import load_strictly, load_tensors, load_vgg, load_what_fits, save_tensors
from shared.errors import InputError
from shared.networks import (
    Encoder,
    GlobalGenerator,
    LocalEnhancer,
    MultiscaleDiscriminator,
    VGG19Features,
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
