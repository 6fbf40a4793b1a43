"""Batches on their way to the device."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from components.train.data.batches import COLUMNS, Batch, collate
from shared.condition import instance_mean, paint


def batch() -> Batch:
    ids = torch.zeros(1, 2, 2, dtype=torch.uint8)
    photos = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    return Batch(ids.clone(), photos, ids, ids, 1, torch.zeros(1, 3, 1))


def test_torch_pins_every_tensor_of_a_batch(monkeypatch):
    """As a DataLoader does it, each tensor once."""
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda one: pinned.append(one) or one.clone())
    given = batch()
    found = pin_memory(given)
    assert isinstance(found, Batch) and len(pinned) == 4
    assert found.regions is found.dense_ids is not given.dense_ids
    for field in fields(Batch):
        one, other = getattr(found, field.name), getattr(given, field.name)
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other)), field.name


def item(regions: int) -> dict[str, Tensor]:
    """A frame of 8 x 8 pixels with so many regions, and a table of theirs."""
    ids = (torch.arange(64).reshape(8, 8) % regions).to(torch.uint8)
    return dict(
        inputs=ids.clone(),
        photos=torch.zeros(3, 8, 8, dtype=torch.uint8),
        dense_ids=ids,
        num_regions=torch.tensor(regions),
        features=torch.randn(3, regions),
    )


def test_shapes_do_not_follow_the_number_of_regions():
    """Columns that no pixel names change what is pooled by rounding alone."""
    few, many = (collate([item(regions)]) for regions in (3, 29))
    assert few.features.shape == many.features.shape == (1, 3, COLUMNS)
    assert few.num_regions == many.num_regions == COLUMNS
    more = collate([item(3), item(COLUMNS + 1)])
    assert more.features.shape == (2, 3, 2 * COLUMNS) and more.num_regions == 2 * COLUMNS
    without = {name: item(3)[name] for name in ("inputs", "photos")}
    assert collate([without]).num_regions == 0

    encoded = torch.randn(1, 3, 8, 8)
    exact, padded = (instance_mean(encoded, many.regions, n) for n in (29, COLUMNS))
    torch.testing.assert_close(padded[..., :29], exact, rtol=1e-6, atol=1e-7)
    assert not padded[..., 29:].any()
    assert torch.equal(paint(padded, many.regions), paint(padded[..., :29], many.regions))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_gpu_batches_are_in_page_locked_memory():
    found = pin_memory(batch())
    assert all(one.is_pinned() for one in (found.inputs, found.photos, found.features))
