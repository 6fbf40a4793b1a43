"""The image pool of pix2pix: D is also shown pictures that G made some steps ago."""

import torch
from torch import Tensor


class ImagePool:
    """Keeps up to `size` fakes, each with the condition it was made from, on the device they came
    from.

    What is kept and returned follows from the seed alone. 0 keeps none: fakes pass through.
    """

    def __init__(self, size: int, seed: int):
        self.size = size
        self.images: list[Tensor] = []  # each (1, C, H, W)
        # On the CPU: a draw never waits for the device.
        self.random = torch.Generator().manual_seed(seed)

    def query(self, images: Tensor) -> Tensor:
        """(N, C, H, W), condition and fake in one, to as many of new and kept ones, without
        gradient.

        While the pool fills up, every image is kept and returned; afterwards half of them, at
        random, change places with a kept one."""
        if self.size == 0:
            return images.detach()
        return torch.cat([self._exchange(image) for image in images.detach().split(1)])

    def _exchange(self, image: Tensor) -> Tensor:
        # Clones: a part of a batch would hold the memory of the whole batch.
        if len(self.images) < self.size:
            self.images.append(image.clone())
        elif torch.rand((), generator=self.random).item() < 0.5:
            index = torch.randint(self.size, (), generator=self.random).item()
            kept, self.images[index] = self.images[index], image.clone()
            return kept.to(image)  # from the CPU after load_state_dict
        return image

    def state_dict(self) -> dict:
        """CPU tensors, with which a pool goes on where this one is."""
        return {"images": [image.cpu() for image in self.images], "random": self.random.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """A smaller pool takes what it has room for; a larger one fills up further."""
        self.images = state["images"][: self.size]
        self.random.set_state(state["random"])
