"""InferSession, with the part of aclruntime that shows through it."""

import os
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnxruntime

from ais_bench.infer.checks import check_om, error

DType = Enum(
    "dtype", "int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 double bool"
)
NUMPY_NAMES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(bool)": "bool"}

# Times, in ms: of executions since the last reset, and of copies of single tensors.
H2D: list[float] = []
D2H: list[float] = []


class Tensor:
    """aclruntime.Tensor."""

    def __init__(self, array: np.ndarray, on_device: bool = False):
        self.array = np.array(array)
        self.on_device = on_device

    @property
    def shape(self) -> list[int]:
        return list(self.array.shape)

    def to_device(self, device_id: int) -> None:
        if not self.on_device:
            H2D.append(0.5)
        self.on_device = True

    def to_host(self) -> None:
        if self.on_device:
            D2H.append(0.25)
        self.on_device = False

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if self.on_device:
            raise RuntimeError("tensor is in npu. can't convert to numpy array")
        return self.array


@dataclass
class TensorDesc:
    """aclruntime.tensor_desc."""

    name: str
    datatype: DType
    format: int
    shape: list[int]
    size: int
    realsize: int


class InferSession:
    def __init__(
        self,
        device_id: int,
        model_path: str,
        acl_json_path=None,
        debug: bool = False,
        loop: int = 1,
    ):
        self.path = check_om(model_path)
        if not isinstance(device_id, int):
            raise TypeError(f"device:{device_id} is not a integer!")
        if not 0 <= device_id <= 255:
            raise ValueError(f"device:{device_id} is illegal. legal value range is [0, 255]")
        self.loop, self.exec_ms, self.batch = loop, [], None
        print("[INFO] acl init success")
        if device_id >= int(os.environ.get("AIS_STAND_IN_DEVICES", "1")):
            print(
                "[ACL ERROR] EL0003: The argument is invalid.\n        open device failed, "
                "runtime result = 507033."
                "[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:162]"
            )
            error(f"acl open device {device_id} failed")
            raise RuntimeError("[507033][Error code unknown] ")
        print(f"[INFO] open device {device_id} success\n[INFO] create new context")
        self._load()
        print(
            f"[INFO] load model {model_path} success\n[INFO] create model description success",
            flush=True,
        )

    def _load(self) -> None:
        try:
            self.onnx = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        except Exception:
            raise self._not_loaded("EE1001: [PID: 7] The argument is invalid.") from None
        meta = self.onnx.get_modelmeta().custom_metadata_map
        self.gears = [int(gear) for gear in meta.get("dynamic_batch_size", "").split(",") if gear]
        model, chip = (
            meta.get("soc_version", "Ascend310P3"),
            os.environ.get("AIS_STAND_IN_SOC", "Ascend310P3"),
        )
        if model != chip:
            raise self._not_loaded(
                "EE1001: [PID: 7] The argument is invalid.\n        TraceBack (most recent call "
                "last):\n        "
                f"ModelCheckCompatibility failed, supported socVersion={chip}, but the model "
                f"socVersion={model}"
            )
        self.inputs = [self._describe(node) for node in self.onnx.get_inputs()]
        self.outputs = [self._describe(node) for node in self.onnx.get_outputs()]
        self.memory = int(os.environ.get("AIS_STAND_IN_MEMORY", 1 << 40))
        if sum(desc.size for desc in self.inputs) > self.memory:
            raise self._not_loaded(OUT_OF_MEMORY)

    def _not_loaded(self, acl_error: str) -> RuntimeError:
        print(f"[ACL ERROR] {acl_error}")
        error(f"load model from file failed, model file is {self.path}")
        return RuntimeError("[1][ACL: invalid parameter] ")

    def _describe(self, node) -> TensorDesc:
        name = NUMPY_NAMES.get(node.type, node.type[len("tensor(") : -1])
        shape = [dim if isinstance(dim, int) else -1 for dim in node.shape]
        assert -1 not in shape[1:] and (self.gears or -1 not in shape), (
            f"{self.path} cannot stand in for an .om"
        )
        size = (
            np.dtype(name).itemsize
            * int(np.prod(shape[1:]))
            * (shape[0] if shape[0] > 0 else max(self.gears))
        )
        return TensorDesc(node.name, DType[name], 0, shape, size, size)

    def get_inputs(self) -> list[TensorDesc]:
        return self.inputs

    def get_outputs(self) -> list[TensorDesc]:
        return self.outputs

    def set_staticbatch(self) -> None:
        self.batch = None

    def set_dynamic_batchsize(self, dym_batch: int) -> None:
        if not self.gears:
            error("the dynamic_batch_size parameter is not specified for model conversion")
            raise RuntimeError("[1][ACL: invalid parameter] ")
        if dym_batch not in self.gears:
            error("the dymBatch parameter is not correct")
            raise RuntimeError("[1][ACL: invalid parameter] ")
        print("[INFO] check dynamic batch success")
        self.batch = dym_batch
        for desc in self.inputs:
            desc.realsize = desc.size * dym_batch // max(self.gears)

    def set_loop_count(self, loop: int) -> None:
        self.loop = loop

    def reset_summaryinfo(self) -> None:
        self.exec_ms = []

    def create_tensor_from_arrays_to_device(self, arrays: np.ndarray) -> Tensor:
        tensor = Tensor(arrays)
        tensor.to_device(0)
        return tensor

    def run(self, feeds: list, out_array: bool = False) -> list:
        if isinstance(feeds[0], np.ndarray):
            assert all(array.flags.c_contiguous for array in feeds), "only its address is passed on"
            feeds = [self.create_tensor_from_arrays_to_device(array) for array in feeds]
        assert all(tensor.on_device for tensor in feeds)
        if self.gears and self.batch is None:
            print(f"[WARN] check failed dym gearcount:{len(self.gears)} but dymtype:0 not set")
            raise RuntimeError("[-1][ACL: general failure] ")
        given = {}
        for i, (tensor, desc) in enumerate(zip(feeds, self.inputs, strict=True)):
            raw = tensor.array.tobytes()  # the NPU sees bytes
            if len(raw) != desc.realsize:
                error(
                    f"check i:{i} name:{desc.name} in size:{len(raw)} needsize:{desc.realsize} "
                    "not match"
                )
                error("check input vector failed ret:-1")
                raise RuntimeError("[-1][ACL: general failure] ")
            shape = [self.batch if dim < 0 else dim for dim in desc.shape]
            given[desc.name] = np.frombuffer(
                raw, NUMPY_NAMES.get(desc.datatype.name, desc.datatype.name)
            ).reshape(shape)
        if sum(desc.size for desc in self.inputs + self.outputs) > self.memory:
            print(f"[ACL ERROR] {OUT_OF_MEMORY}")
            error("[207001][Error code unknown] Malloc ptrData failed.")
            error(
                f"memory data malloc failed.i:0 name:{self.outputs[0].name} "
                f"size:{self.outputs[0].size} ret:2"
            )
            raise RuntimeError("[2][ACL: memory allocation fail] ")
        for _ in range(self.loop):
            try:
                arrays = self.onnx.run(None, given)
            except Exception:  # as of a file that the chip cannot run
                raise RuntimeError("[1][ACL: failure] ") from None
            self.exec_ms.append(10.0 + len(self.exec_ms))
        outputs = [Tensor(array, on_device=True) for array in arrays]
        if not out_array:
            return outputs
        self.convert_tensors_to_host(outputs)
        return [np.array(tensor) for tensor in outputs]

    @staticmethod
    def convert_tensors_to_host(tensors: list[Tensor]) -> None:
        for tensor in tensors:
            tensor.to_host()

    def free_resource(self) -> None:
        print("[INFO] unload model success, model Id is 1", flush=True)

    @staticmethod
    def finalize() -> None:
        print("[INFO] end to reset device 0\n[INFO] end to finalize acl", flush=True)


OUT_OF_MEMORY = (
    "EL0004: [PID: 7] 2026-01-01-00:00:00.000.000 Failed to allocate memory.\n        "
    "Possible Cause: Available memory is insufficient.\n        Solution: Close applications not "
    "in use."
)
