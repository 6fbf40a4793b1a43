"""InferSession over the stand-in of aclruntime."""

import aclruntime
import numpy as np
from aclruntime import D2H, H2D  # noqa: F401 (times of copies)

from ais_bench.infer.checks import check_om


class InferSession:
    def __init__(
        self,
        device_id: int,
        model_path: str,
        acl_json_path=None,
        debug: bool = False,
        loop: int = 1,
    ):
        check_om(model_path)
        if not isinstance(device_id, int):
            raise TypeError(f"device:{device_id} is not a integer!")
        if not 0 <= device_id <= 255:
            raise ValueError(f"device:{device_id} is illegal. legal value range is [0, 255]")
        self.device_id = device_id
        options = aclruntime.session_options(loop)
        self.session = aclruntime.InferenceSession(model_path, device_id, options)
        self.get_inputs, self.get_outputs = self.session.get_inputs, self.session.get_outputs
        self.set_staticbatch = self.session.set_staticbatch
        self.set_dynamic_batchsize = self.session.set_dynamic_batchsize
        self.free_resource = self.session.free_resource

    @property
    def exec_ms(self) -> list[float]:
        return self.session.exec_ms

    def set_loop_count(self, loop: int) -> None:
        self.session.options().loop = loop

    def reset_summaryinfo(self) -> None:
        self.session.reset_sumaryinfo()

    def create_tensor_from_arrays_to_device(self, arrays: np.ndarray) -> aclruntime.Tensor:
        tensor = aclruntime.Tensor(arrays)
        tensor.to_device(self.device_id)
        return tensor

    def run(self, feeds: list, out_array: bool = False) -> list:
        if isinstance(feeds[0], np.ndarray):
            assert all(array.flags.c_contiguous for array in feeds), "only its address is passed on"
            feeds = [aclruntime.BaseTensor(array.ctypes.data, array.nbytes) for array in feeds]
        outputs = self.session.run([desc.name for desc in self.get_outputs()], feeds)
        if not out_array:
            return outputs
        self.convert_tensors_to_host(outputs)
        return [np.array(tensor) for tensor in outputs]

    @staticmethod
    def convert_tensors_to_host(tensors: list) -> None:
        for tensor in tensors:
            tensor.to_host()

    @staticmethod
    def finalize() -> None:
        aclruntime.InferenceSession.finalize()
