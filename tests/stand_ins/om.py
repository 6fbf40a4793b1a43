"""Files for the stand-in of ais_bench: ONNX under the name .om, small functions whose pictures a
test can derive."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

H, W = 8, 16
STEP = np.float32(2 / 255)  # of one grey level in [-1, 1]


def maps_om(file: Path, batch: int | None = 1, output: str = "float", **metadata: str) -> Path:
    """labels (N, H, W) uint8, instances (N, H, W) int32 -> red = label, green = 255 - label, blue =
    instance id.

    batch None: any of the gears named in `metadata`. output "uint8": 0 .. 255, all three channels
    the label."""
    size = [batch or "batch", H, W]
    inputs = [
        helper.make_tensor_value_info("labels", TensorProto.UINT8, size),
        helper.make_tensor_value_info("instances", TensorProto.INT32, size),
    ]
    constants = dict(step=STEP, one=np.float32(1), axis=np.array([1]))
    nodes = []
    for name in ("labels", "instances"):
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", [f"{name}_f", "axis"], [f"{name}_1"]),
            helper.make_node("Mul", [f"{name}_1", "step"], [f"{name}_s"]),
            helper.make_node("Sub", [f"{name}_s", "one"], [f"{name}_x"]),
        ]
    if output == "uint8":
        nodes += [
            helper.make_node("Concat", ["labels_1"] * 3, ["three"], axis=1),
            helper.make_node("Cast", ["three"], ["picture"], to=TensorProto.UINT8),
        ]
    else:
        nodes += [
            helper.make_node("Neg", ["labels_x"], ["inverse"]),
            helper.make_node("Concat", ["labels_x", "inverse", "instances_x"], ["picture"], axis=1),
        ]
    kind = TensorProto.UINT8 if output == "uint8" else TensorProto.FLOAT
    return _write(file, nodes, inputs, ("picture", kind, [size[0], 3, H, W]), constants, metadata)


def channels_om(file: Path, batch: int = 1) -> Path:
    """input_concat (N, 36, H, W) float32 of 0 and 1 -> red, green, blue = channels 0, 1, 2, as 0
    and 255."""
    constants = dict(
        start=np.array([0]),
        end=np.array([3]),
        axis=np.array([1]),
        two=np.float32(2),
        one=np.float32(1),
    )
    nodes = [
        helper.make_node("Slice", ["input_concat", "start", "end", "axis"], ["three"]),
        helper.make_node("Mul", ["three", "two"], ["doubled"]),
        helper.make_node("Sub", ["doubled", "one"], ["fake_image"]),
    ]
    inputs = [helper.make_tensor_value_info("input_concat", TensorProto.FLOAT, [batch, 36, H, W])]
    return _write(
        file, nodes, inputs, ("fake_image", TensorProto.FLOAT, [batch, 3, H, W]), constants, {}
    )


def _write(file: Path, nodes, inputs, output, constants, metadata) -> Path:
    graph = helper.make_graph(
        nodes,
        "om",
        inputs,
        [helper.make_tensor_value_info(*output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, file)
    file.chmod(0o600)  # as atc's
    return file
