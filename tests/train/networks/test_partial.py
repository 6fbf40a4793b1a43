"""What fits of other weights is taken, and what that is is said."""

import pytest
import torch

from components.train.networks.partial import load_what_fits
from shared.networks.build import build_generator
from shared.networks.checkpoint import save_tensors
from tests import tiny


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


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
