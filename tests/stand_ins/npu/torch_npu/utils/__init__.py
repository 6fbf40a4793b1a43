"""torch_npu.utils: tensors that lie side by side in one buffer."""

from torch import Tensor

from torch_npu.stand_in.tensors import behind, on_device, put_behind


def npu_combine_tensors(list_of_tensor: list[Tensor], require_copy_value=True) -> Tensor | None:
    """A buffer in which all of them, of one dtype, lie from now on; None for no tensors."""
    if not list_of_tensor:
        return None
    assert all(tensor.device.type == "npu" and tensor.is_contiguous() for tensor in list_of_tensor)
    total = sum(tensor.numel() for tensor in list_of_tensor)
    buffer = behind(list_of_tensor[0]).new_zeros(total)
    start = 0
    for tensor in list_of_tensor:
        old = behind(tensor)
        part = buffer[start : start + old.numel()].view(old.shape)
        if require_copy_value:
            part.copy_(old)
        put_behind(tensor, part)
        start += old.numel()
    return on_device(buffer)


def get_part_combined_tensor(combined_tensor: Tensor | None, index: int, size: int):
    """What shows `size` numbers of a buffer from `index` on; None where there are none."""
    if combined_tensor is None or size == 0:
        return None
    return on_device(behind(combined_tensor)[index : index + size])
