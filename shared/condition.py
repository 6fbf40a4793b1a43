"""Integer maps -> network input, signed <-> uint8 pictures: the same code in training and inside
the exported graph."""

import torch
import torch.nn.functional as F
from torch import Tensor

GREY_LEVEL = 1 / 127.5  # one of 0 .. 255, in pictures in [-1, 1]


def one_hot(labels: Tensor, num_labels: int, nhwc: bool = False) -> Tensor:
    """(N, H, W) integer labels -> (N, num_labels, H, W) float32 of 0 and 1; ids from num_labels on
    have no channel. nhwc: how they lie in memory."""
    ids = torch.arange(num_labels, dtype=torch.int32, device=labels.device)
    if nhwc:
        return (labels.to(torch.int32).unsqueeze(-1) == ids).float().movedim(-1, 1)
    return (labels.to(torch.int32).unsqueeze(1) == ids.view(1, -1, 1, 1)).float()


def edges(instances: Tensor) -> Tensor:
    """(N, H, W) ids -> (N, 1, H, W) float32: 1 where one of four neighbours has another id
    (pix2pixHD, get_edges)."""
    across = (instances[:, :, 1:] != instances[:, :, :-1]).float()  # (N, H, W-1)
    down = (instances[:, 1:, :] != instances[:, :-1, :]).float()  # (N, H-1, W)
    beside = torch.maximum(F.pad(across, (1, 0)), F.pad(across, (0, 1)))
    above = torch.maximum(F.pad(down, (0, 0, 1, 0)), F.pad(down, (0, 0, 0, 1)))
    return torch.maximum(beside, above).unsqueeze(1)


def encode_maps(
    inputs: Tensor, instances: Tensor | None, num_labels: int, nhwc: bool = False
) -> Tensor:
    """Inputs and instance ids (N, H, W) -> (N, channels [+ 1], H, W): what D sees beside the photo.
    nhwc: how they lie in memory.

    Inputs are labels (N, H, W), or where num_labels is 0 pictures (N, C, H, W) uint8. Any ids that
    differ between neighbouring instances give the same edges."""
    maps = [one_hot(inputs, num_labels, nhwc) if num_labels else to_signed(inputs)]
    if instances is not None:
        maps.append(edges(instances))
    if nhwc:
        return torch.cat([part.movedim(1, -1) for part in maps], dim=-1).movedim(-1, 1)
    return torch.cat(maps, dim=1) if instances is not None else maps[0]


def instance_mean(features: Tensor, dense_ids: Tensor, num_instances: int) -> Tensor:
    """Instance-wise average pooling (pix2pixHD, section 3.4) as one scatter-mean, no loop and no
    host synchronisation.

    features (N, F, H, W), dense_ids (N, H, W) in 0..num_instances-1 -> (N, F, num_instances); 0 for
    an absent id."""
    # Sums per row, then over the rows: one running float32 sum of 2^19 equal pixels would be off by
    # half a percent.
    n, f, height = features.shape[:3]
    rows = torch.arange(height, device=features.device).view(1, height, 1) * num_instances
    index = (dense_ids.long() + rows).reshape(n, 1, -1)  # (N, 1, H * W)

    sums = features.new_zeros(n, f, height * num_instances)
    sums = sums.scatter_add(2, index.expand(n, f, -1), features.reshape(n, f, -1))
    sums = sums.view(n, f, height, -1).sum(2)  # (N, F, num_instances)

    counts = features.new_zeros(n, 1, height * num_instances)
    counts = counts.scatter_add(2, index, torch.ones_like(index, dtype=features.dtype))
    counts = counts.view(n, 1, height, -1).sum(2)  # (N, 1, num_instances)
    return sums / counts.clamp(min=1)


def paint(table: Tensor, ids: Tensor) -> Tensor:
    """Table (N, F, K) of one feature vector per id, ids (N, H, W) in 0..K-1 -> (N, F, H, W)."""
    n, f, _ = table.shape
    index = ids.reshape(n, 1, -1).long().expand(n, f, -1)
    return table.gather(2, index).view(n, f, *ids.shape[1:])


def to_signed(picture: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]."""
    return picture.float() / 127.5 - 1


def to_uint8(picture: Tensor) -> Tensor:
    """float in [-1, 1] -> uint8 0..255, rounded to nearest: the inverse of `to_signed`."""
    return ((picture.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
