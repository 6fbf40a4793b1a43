"""Batches on their way to the device."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from components.train.data.batches import Batch


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_gpu_batches_are_in_page_locked_memory():
    found = pin_memory(batch())
    assert all(one.is_pinned() for one in (found.inputs, found.photos, found.features))
