"""Weight files as other people's code writes them."""

from pathlib import Path

import torch

from shared.networks.chosen import weights_path


def nvidia_generator(
    folder: Path, channels: int, ngf: int = 8, n_down: int = 2, n_blocks: int = 2
) -> dict[str, torch.Tensor]:
    """Write latest_net_G.pth with the names and shapes of pix2pixHD's GlobalGenerator, counted by
    hand: a 7x7 convolution, down, blocks, up, a 7x7 one, each with norm and ReLU behind it."""
    random = torch.Generator().manual_seed(0)
    state = {}

    def convolution(key: str, *shape: int, transposed: bool = False) -> None:
        state[f"{key}.weight"] = torch.randn(shape, generator=random) * 0.02
        count = shape[1] if transposed else shape[0]
        state[f"{key}.bias"] = torch.randn(count, generator=random)

    convolution("model.1", ngf, channels, 7, 7)
    index, width = 4, ngf
    for _ in range(n_down):
        convolution(f"model.{index}", 2 * width, width, 3, 3)
        index, width = index + 3, 2 * width
    for _ in range(n_blocks):
        for place in (1, 5):
            convolution(f"model.{index}.conv_block.{place}", width, width, 3, 3)
        index += 1
    for _ in range(n_down):
        convolution(f"model.{index}", width, width // 2, 3, 3, transposed=True)
        index, width = index + 3, width // 2
    convolution(f"model.{index + 1}", 3, ngf, 7, 7)

    folder.mkdir(parents=True)
    torch.save(state, weights_path(folder, "G"))
    return state
