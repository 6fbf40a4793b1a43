"""The smallest file that a runtime runs."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def doubling_file(path: Path, batch_size: int | str) -> Path:
    """y = x + x for (N, 2) float32."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch_size, 2]) for name in "xy"
    )
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", [x], [y])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path
