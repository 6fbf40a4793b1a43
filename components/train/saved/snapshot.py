"""What a training is at one moment, apart from what becomes of it."""

import torch


def snapshot(content: object, copies: dict | None = None) -> object:
    """The same with its tensors copied to the CPU, so that it stays as it is while training goes
    on; what stands in it twice is copied once."""
    copies = {} if copies is None else copies
    match content:
        case torch.Tensor():
            form = (content.device, content.dtype, content.shape, content.stride())
            place = (content.data_ptr(), *form) if content.data_ptr() else object()
            if place not in copies:
                copy = torch.empty(content.shape, dtype=content.dtype)
                copies[place] = copy.copy_(content.detach())
            return copies[place]
        case dict():
            return {key: snapshot(value, copies) for key, value in content.items()}
        case list():
            return [snapshot(value, copies) for value in content]
    return content
