"""Integer maps to channels, pooling and painting, against slow loops and algebra."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.condition import edges, encode_maps, instance_mean, paint, to_signed, to_uint8
from shared.data.maps import densify
from tests import reference


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 7))
def test_one_hot_and_edges_equal_the_loop(seed, height, width):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 5, (2, height, width)).astype(np.uint8))
    instances = torch.from_numpy(
        rng.choice([0, 1, 33001, 65535], (2, height, width)).astype(np.int32)
    )
    wanted = reference.one_hot_and_edges(labels, instances, 5)
    for of_instances, channels in ((instances, wanted), (None, wanted[:, :5])):
        assert torch.equal(encode_maps(labels, of_instances, 5), channels)
        nhwc = encode_maps(labels, of_instances, 5, nhwc=True)
        assert torch.equal(nhwc, channels) and nhwc.permute(0, 2, 3, 1).is_contiguous()


def test_edges_do_not_care_about_the_size_of_ids():
    ids = torch.tensor([[[26000, 26001, 26001], [26000, 26001, 33002]]], dtype=torch.int32)
    assert edges(ids).tolist() == [[[[1, 1, 1], [1, 1, 1]]]]
    assert edges(torch.full((1, 4, 4), 33001, dtype=torch.int32)).sum() == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 300, 40000]))
def test_edges_of_positions_are_those_of_ids(seed, pool):
    """Training has positions of 8, 16 or 32 bits, the exported file the ids themselves."""
    rng = np.random.default_rng(seed)
    instances = rng.choice(rng.integers(-(2**31), 2**31, pool), (200, 201)).astype(np.int32)
    _, positions = densify(instances)
    assert torch.equal(
        edges(torch.from_numpy(positions)[None]), edges(torch.from_numpy(instances)[None])
    )


def test_pictures_go_in_signed_with_an_edge_channel():
    picture = torch.arange(2 * 5 * 3 * 4, dtype=torch.uint8).view(2, 5, 3, 4)
    instances = torch.zeros(2, 3, 4, dtype=torch.int32)
    channels = encode_maps(picture, instances, 0)
    assert torch.equal(channels[:, :5], picture / 127.5 - 1) and (channels[:, 5:] == 0).all()
    assert torch.equal(encode_maps(picture, None, 0), channels[:, :5])


def test_pooling_and_painting_equal_the_loop_and_its_gradient():
    torch.manual_seed(0)
    features = torch.randn(2, 3, 9, 11, requires_grad=True)
    instances = np.random.default_rng(0).choice([7, 24, 26001, 33001], (2, 9, 11))
    dense = torch.from_numpy(np.stack([densify(image)[1] for image in instances]))
    painted = paint(instance_mean(features, dense, 6), dense)  # two ids of the six never occur
    expected = reference.pooled_features(features, torch.from_numpy(instances))
    assert torch.allclose(painted, expected, atol=1e-6)
    direction = torch.randn_like(painted)
    (ours,) = torch.autograd.grad((painted * direction).sum(), features, retain_graph=True)
    (theirs,) = torch.autograd.grad((expected * direction).sum(), features)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_uint8_and_signed_are_inverses():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_signed(every)), every)
    assert to_signed(every).min() == -1 and to_signed(every).max() == 1
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_dense_ids_are_positions_in_the_sorted_ids():
    ids, dense = densify(np.array([[33001, 7], [7, 26000]], np.int32))
    assert ids.tolist() == [7, 26000, 33001] and dense.tolist() == [[2, 0], [0, 1]]
