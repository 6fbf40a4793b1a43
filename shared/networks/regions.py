"""Instance features: what the encoder says of a photo, and its mean over regions, as in section 3.4
of pix2pixHD."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.condition import instance_mean, to_signed
from shared.data.reader import resize_fast
from shared.device import Runtime


@torch.inference_mode()
def encode_photos(
    encoder: nn.Module, photos: list[np.ndarray], size: tuple[int, int] | None, runtime: Runtime
) -> Tensor:
    """Photos (C, H, W) uint8 -> feature maps (N, feat_num, h, w) float32, on the device.

    size: (height, width) at which they are encoded; None = their own, which must then be one."""
    photos = [resize_fast(photo, *size) for photo in photos] if size else photos
    batch = torch.from_numpy(np.stack(photos))  # (N, C, h, w) uint8
    # Photos lie in memory as their reader has them, and norms compute by that in another order.
    batch = batch.contiguous().to(runtime.torch_device)
    with runtime.autocast():
        return encoder(to_signed(batch)).float()


def pool(encoded: Tensor, dense_ids: np.ndarray, num_regions: int) -> np.ndarray:
    """Feature maps (N, F, h, w), positions (N, H, W) -> (N, num_regions, F) float32, means over the
    pixels.

    Nearest up-sampling between the two sizes keeps the borders of the regions sharp. On the host in
    float64: a float32 sum of 2^19 equal pixels is off by half a percent, and an accelerator adds in
    another order every time."""
    encoded = encoded.cpu()
    if encoded.shape[2:] != dense_ids.shape[1:]:
        encoded = F.interpolate(encoded, size=dense_ids.shape[1:], mode="nearest")
    means = instance_mean(encoded.double(), torch.from_numpy(dense_ids), num_regions)
    return means.transpose(1, 2).float().numpy()
