"""Measuring networks of a node or two, as ONNX files, with known answers; pictures for them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
ANY = ("n", 3, "height", "width")


def write_network(
    path: Path, nodes, inputs: dict, rank: int, types=(FLOAT, FLOAT), constants=None
) -> str:
    """Write an ONNX file; returns its path.

    `inputs` are shapes by name, `rank` is of "out", `types` are of the inputs and of "out"."""
    make_info = helper.make_tensor_value_info
    values = [make_info(name, types[0], shape) for name, shape in inputs.items()]
    out = helper.make_tensor_value_info("out", types[1], [None] * rank)
    stored = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", values, [out], stored)
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return str(path)


def mean_colour(path: Path, shape=ANY) -> str:
    """Features: the mean of each channel, (N, 3, 1, 1)."""
    mean = helper.make_node("ReduceMean", ["x"], ["out"], axes=[2, 3])
    return write_network(path, [mean], {"x": shape}, 4)


def mean_difference(path: Path, first=ANY, second=ANY, axes=(1, 2, 3)) -> str:
    """Distance: mean |a - b|, (N, 1, 1, 1)."""
    nodes = [helper.make_node("Sub", ["a", "b"], ["d"]), helper.make_node("Abs", ["d"], ["e"])]
    nodes.append(helper.make_node("ReduceMean", ["e"], ["out"], axes=axes))
    return write_network(path, nodes, {"a": first, "b": second}, 4)


def brightest_channel(path: Path, shape=ANY, half: bool = False) -> str:
    """Scores of three classes: red, green, blue; where asked for at half the size."""
    pool = helper.make_node("AveragePool", ["x"], ["out"], kernel_shape=[2, 2], strides=[2, 2])
    same = helper.make_node("Identity", ["x"], ["out"])
    return write_network(path, [pool if half else same], {"x": shape}, 4)


def red_tens(path: Path, classes: int) -> str:
    """Scores that are the largest for class k where red is 10 k: 2 k x - k^2 = x^2 - (x - k)^2 with
    x = red / 10."""
    k = np.arange(classes, dtype=np.float32)
    weight = np.zeros((classes, 3, 1, 1), np.float32)
    weight[:, 0, 0, 0] = 2 * k * 255 / 10
    conv = helper.make_node("Conv", ["x", "weight", "bias"], ["out"])
    return write_network(path, [conv], {"x": ANY}, 4, constants={"weight": weight, "bias": -(k**2)})


def red_ids(path: Path) -> str:
    """Ids (N, H, W): the red channel as it is."""
    weight = np.array([255, 0, 0], np.float32).reshape(1, 3, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["a"]),
        helper.make_node("Squeeze", ["a", "axis"], ["b"]),
        helper.make_node("Round", ["b"], ["c"]),
        helper.make_node("Cast", ["c"], ["out"], to=TensorProto.INT64),
    ]
    constants = {"weight": weight, "axis": np.array([1])}
    return write_network(path, nodes, {"x": ANY}, 3, (FLOAT, TensorProto.INT64), constants)


def plain(colour, size=(8, 8)) -> np.ndarray:
    """A picture (3, H, W) of one colour."""
    channels = np.broadcast_to(np.array(colour, np.uint8), 3)
    return np.broadcast_to(channels[:, None, None], (3, *size)).copy()


def with_red(red: np.ndarray) -> np.ndarray:
    """A picture of that red (H, W) and nothing else."""
    return np.stack([red, np.zeros_like(red), np.zeros_like(red)]).astype(np.uint8)


def random_pictures(count: int, size=(8, 12)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 3, *size), dtype=np.uint8))
