"""VGG19's features are those of torchvision's weights."""

import pytest
import torch

from components.train.networks.vgg import VGG19Features, load_vgg
from shared.networks.checkpoint import save_tensors


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
