"""VGG19's features are those of torchvision's weights, which come by themselves."""

import copy
import dataclasses
import hashlib

import pytest
import torch

from components.train.config import TrainConfig
from components.train.losses import vgg_loss
from components.train.networks import vgg as networks
from components.train.networks.vgg import VGG19Features, find_vgg, load_vgg
from components.train.run import run
from components.train.step import Trainer
from shared.networks.checkpoint import save_tensors
from shared.published.files import VGG19, WeightFile
from tests import tiny
from tests.asking import refusal
from tests.loopback import serving
from tests.training import config, trainer_for


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_vgg_takes_torchvision_weights_and_taps_five_relus(tmp_path):
    vgg = VGG19Features()
    state = {key: torch.randn_like(value) * 0.05 for key, value in vgg.state_dict().items()}
    save_tensors(
        tmp_path / "vgg19.pth",
        state | {"classifier.0.weight": torch.zeros(2, 2), "features.34.bias": torch.zeros(512)},
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
    assert len(ours) == 5 and all(
        torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, taps, strict=True)
    )
    assert not any(parameter.requires_grad for parameter in loaded.parameters())

    # A grey picture is three equal channels.
    grey = zip(loaded(x[:, :1]), loaded(x[:, :1].repeat(1, 3, 1, 1)), strict=True)
    assert all(torch.equal(a, b) for a, b in grey)


def test_the_keys_and_shapes_are_those_of_torchvision():
    """Of its `vgg19`: configuration E of Simonyan and Zisserman, here up to conv5_1."""
    convolutions = {
        **{0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256)},
        **{14: (256, 256), 16: (256, 256), 19: (512, 256), 21: (512, 512), 23: (512, 512)},
        **{25: (512, 512), 28: (512, 512)},
    }
    expected = {}
    for index, shape in convolutions.items():
        expected[f"features.{index}.weight"] = (*shape, 3, 3)
        expected[f"features.{index}.bias"] = shape[:1]
    with torch.device("meta"):
        state = VGG19Features().state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == expected
    assert VGG19.url == "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


def test_a_training_downloads_what_it_needs_and_learns_from_it(tmp_path, monkeypatch, capsys):
    """A file as large as VGG19's features, all of whose weights are 0: the VGG loss is then 0."""
    zeros = {key: torch.zeros_like(value) for key, value in VGG19Features().state_dict().items()}
    save_tensors(tmp_path / "zeros.pth", zeros)
    content = (tmp_path / "zeros.pth").read_bytes()
    tiny.dataset(tmp_path / "dataset")
    values = tiny.TRAIN | dict(epochs=1, epochs_decay=0, validate_every_epochs=0)
    monkeypatch.delenv("WEIGHTS_MIRROR")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with serving(**{"v.pth": content}) as server:
        file = WeightFile(
            "v.pth", f"{server.url}/v.pth", hashlib.sha256(content).hexdigest(), len(content)
        )
        monkeypatch.setattr(networks, "VGG19", file)
        assert find_vgg(TrainConfig()) is None and server.asked == []
        config = TrainConfig.check(values | dict(lambda_vgg=10))
        figures = run(tmp_path / "dataset", tmp_path / "model", config=config)
        assert figures["G_VGG"] == 0
        assert find_vgg(config) == file.place and len(server.asked) == 1
    assert "downloads v.pth (52 MB) from http://" in capsys.readouterr().out

    # Where it is, it is checked, also for what an option names.
    file.place.write_bytes(content[:-1])
    sentence = refusal(find_vgg, TrainConfig(lambda_vgg=1))
    assert sentence.startswith("--vgg-weights auto needs ") and "was published" in sentence
    other = str(tmp_path / "none.pth")
    assert "is no file" in refusal(find_vgg, TrainConfig(lambda_vgg=1, vgg_weights=other))


@pytest.mark.parametrize("asked", ["auto", "nchw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_has_vgg_in_its_precision_and_memory_format(asked, precision):
    """Cast once, it computes what weights do that autocast casts anew in every pass; NHWC is kept
    from layer to layer."""
    a, options = tiny.architecture(), config(memory_format=asked)
    trainer = trainer_for(a, options, precision=precision)
    vgg = VGG19Features()
    with_vgg = dataclasses.replace(trainer.networks, vgg=copy.deepcopy(vgg))
    Trainer(with_vgg, a, options, trainer.runtime)

    pictures = [torch.rand(1, 3, 32, 32) * 2 - 1 for _ in range(2)]
    with trainer.runtime.autocast():
        wanted, found = vgg_loss(vgg, *pictures), vgg_loss(with_vgg.vgg, *pictures)
        maps = with_vgg.vgg(pictures[0])
    torch.testing.assert_close(found, wanted, rtol=1e-5 if precision == "fp32" else 1e-2, atol=0)
    for features in maps[:3]:  # the last are of 2x2 pixels and less, which may be either
        assert features.is_contiguous(memory_format=torch.channels_last) == (asked == "auto")
    weight = with_vgg.vgg.features[0].weight
    assert weight.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
