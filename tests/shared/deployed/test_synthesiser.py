"""The deployed function, around a network that shows what it is given."""

import numpy as np
import torch

from shared.deployed.synthesiser import Synthesiser
from tests import reference, tiny


def test_a_picture_goes_in_signed_with_edges_and_one_style_everywhere():
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.integers(0, 256, (2, 5, 6, 7), np.uint8))
    instances = torch.from_numpy(rng.integers(0, 2, (2, 6, 7)).astype(np.int32)) * 70000
    style = torch.tensor([[0.25, -1.0]])
    architecture = tiny.architecture(num_labels=0, input_nc=5, feat_num=2)
    channels = Synthesiser(torch.nn.Identity(), architecture, style)(picture, instances)
    assert torch.equal(channels[:, :5], picture / 127.5 - 1)
    edges = reference.one_hot_and_edges(instances * 0, instances, 1)[:, 1:]
    assert torch.equal(channels[:, 5:6], edges)
    assert torch.equal(channels[:, 6:], style.view(1, 2, 1, 1).expand(2, 2, 6, 7))


def test_pixels_without_label_have_no_channel_and_take_the_last_style():
    labels = torch.tensor([[[0, 1, 2], [255, 2, 255]]], dtype=torch.uint8)
    style = torch.tensor([[1.0, 10], [2, 20], [3, 30], [9, 90]])
    architecture = tiny.architecture(num_labels=3, use_instances=False, feat_num=2)
    channels = Synthesiser(torch.nn.Identity(), architecture, style)(labels)[0]
    assert channels[:3].sum(dim=0).tolist() == [[1, 1, 1], [0, 1, 0]]
    assert channels[:3].argmax(dim=0)[0].tolist() == [0, 1, 2]
    assert channels[3].tolist() == [[1, 2, 3], [9, 3, 9]] and channels[4].tolist() == [
        [10, 20, 30],
        [90, 30, 90],
    ]
