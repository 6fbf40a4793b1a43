"""Stand-in for aclruntime, the part of ais_bench that is C++: names and signatures as its binding
has them (PyInferenceSession.cpp, PyTensor.cpp of 8da7f645). The package around it is the stand-in
or the real one; what it is and takes from the environment stands in `ais_bench/__init__.py`."""

import ctypes
import os
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace

import numpy as np
import onnxruntime

DType = Enum(
    "dtype", "int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 double bool"
)
NUMPY_NAMES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(bool)": "bool"}

# Times, in ms: of executions since the last reset, and of copies of single tensors.
H2D: list[float] = []
D2H: list[float] = []


class Tensor:
    """Bytes here or on the device."""

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
    """An input or output of a file."""

    name: str
    datatype: DType
    format: int
    shape: list[int]
    size: int
    realsize: int


class BaseTensor:
    """Bytes in host memory, by their address."""

    def __init__(self, address: int, size: int):
        self.array = np.frombuffer(ctypes.string_at(address, size), np.uint8)


@dataclass
class session_options:
    """How a file is run."""

    loop: int = 1
    log_level: int = 2
    acl_json_path: str = ""


class MemorySummary:
    """The times of copies since the last reset."""

    H2D_time_list, D2H_time_list = H2D, D2H

    def reset(self) -> None:
        H2D.clear()
        D2H.clear()


class InferenceSession:
    def __init__(self, model_path: str, device_id: int, options: session_options):
        self.path, self.device_id, self._options = model_path, device_id, options
        self.exec_ms, self.batch = [], None
        print("[INFO] acl init success")
        if device_id >= int(os.environ.get("AIS_STAND_IN_DEVICES", "1")):
            print(
                "[ACL ERROR] EL0003: The argument is invalid.\n        open device failed, "
                "runtime result = 507033."
                "[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:162]"
            )
            _error(f"acl open device {device_id} failed")
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
        _error(f"load model from file failed, model file is {self.path}")
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
            _error("the dynamic_batch_size parameter is not specified for model conversion")
            raise RuntimeError("[1][ACL: invalid parameter] ")
        if dym_batch not in self.gears:
            _error("the dymBatch parameter is not correct")
            raise RuntimeError("[1][ACL: invalid parameter] ")
        print("[INFO] check dynamic batch success")
        self.batch = dym_batch
        for desc in self.inputs:
            desc.realsize = desc.size * dym_batch // max(self.gears)

    def get_max_dym_batchsize(self) -> int:
        return max(self.gears)

    def get_dym_aipp_input_exist(self) -> int:
        return 0

    def options(self) -> session_options:
        return self._options

    def sumary(self) -> SimpleNamespace:
        """Its executions, begin and end in ms, one after the other."""
        ends = np.cumsum(self.exec_ms).tolist()
        return SimpleNamespace(exec_time_list=list(zip([0.0, *ends], ends, strict=False)))

    def reset_sumaryinfo(self) -> None:
        self.exec_ms = []

    def run(self, names: list[str], feeds: list[Tensor | BaseTensor]) -> list[Tensor]:
        assert names == [desc.name for desc in self.outputs]
        if isinstance(feeds[0], BaseTensor):
            feeds = [Tensor(feed.array) for feed in feeds]
            for tensor in feeds:
                tensor.to_device(self.device_id)
        assert all(tensor.on_device for tensor in feeds)
        if self.gears and self.batch is None:
            print(f"[WARN] check failed dym gearcount:{len(self.gears)} but dymtype:0 not set")
            raise RuntimeError("[-1][ACL: general failure] ")
        given = {}
        for i, (tensor, desc) in enumerate(zip(feeds, self.inputs, strict=True)):
            raw = tensor.array.tobytes()  # the NPU sees bytes
            if len(raw) != desc.realsize:
                _error(
                    f"check i:{i} name:{desc.name} in size:{len(raw)} needsize:{desc.realsize} "
                    "not match"
                )
                _error("check input vector failed ret:-1")
                raise RuntimeError("[-1][ACL: general failure] ")
            shape = [self.batch if dim < 0 else dim for dim in desc.shape]
            given[desc.name] = np.frombuffer(
                raw, NUMPY_NAMES.get(desc.datatype.name, desc.datatype.name)
            ).reshape(shape)
        if sum(desc.size for desc in self.inputs + self.outputs) > self.memory:
            print(f"[ACL ERROR] {OUT_OF_MEMORY}")
            _error("[207001][Error code unknown] Malloc ptrData failed.")
            _error(
                f"memory data malloc failed.i:0 name:{self.outputs[0].name} "
                f"size:{self.outputs[0].size} ret:2"
            )
            raise RuntimeError("[2][ACL: memory allocation fail] ")
        for _ in range(self._options.loop):
            try:
                arrays = self.onnx.run(None, given)
            except Exception:  # as of a file that the chip cannot run
                raise RuntimeError("[1][ACL: failure] ") from None
            self.exec_ms.append(10.0 + len(self.exec_ms))
        return [Tensor(array, on_device=True) for array in arrays]

    def free_resource(self) -> None:
        print("[INFO] unload model success, model Id is 1", flush=True)

    @staticmethod
    def finalize() -> None:
        print("[INFO] end to reset device 0\n[INFO] end to finalize acl", flush=True)


def _error(text: str) -> None:
    print(f"[ERROR] {text}", flush=True)


OUT_OF_MEMORY = (
    "EL0004: [PID: 7] 2026-01-01-00:00:00.000.000 Failed to allocate memory.\n        "
    "Possible Cause: Available memory is insufficient.\n        Solution: Close applications not "
    "in use."
)
