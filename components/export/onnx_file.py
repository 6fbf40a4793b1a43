"""The network as an ONNX file: traced, tidied, checked; in memory, as nothing reaches the disk before it is proven."""

import io
import warnings

import onnx
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from shared.networks import Synthesiser

OUTPUT = "picture"
BATCH = "batch"  # name of the dynamic axis


def to_onnx(synthesiser: Synthesiser, maps: dict[str, torch.Tensor], opset: int) -> bytes:
    """The whole of `synthesiser` as one ONNX file.

    maps: an example by input name, labels (N, H, W) or image (N, C, H, W) uint8 and, where the network uses them,
    instances (N, H, W) int32.
    H and W become static, N dynamic; the output is `picture` (N, 3, H, W) float32 in [-1, 1].
    """
    # The tracing exporter honours every opset that Ascend's ATC has parsers for, 11 to 18. The newer one (dynamo=True)
    # starts at 18 and, as Pad cannot be converted down, stays there without an error. Tidied, both graphs are alike.
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tracing is old, and that InstanceNorm is "in training mode"
        torch.onnx.export(
            synthesiser,
            tuple(maps.values()),
            buffer,
            dynamo=False,
            opset_version=opset,
            input_names=list(maps),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: BATCH} for name in [*maps, OUTPUT]},
        )
    model = tidy(onnx.load_from_string(buffer.getvalue()))
    check(model, opset)
    return model.SerializeToString()


def tidy(model: ModelProto) -> ModelProto:
    """Fold constants: ATC needs the amounts of every Pad as numbers, and the static shapes follow from them."""
    graph = model.graph
    constants: dict[str, TensorProto] = {}
    nodes = []
    for node in graph.node:
        while node.input and node.input[-1] == "":  # an optional input that is absent
            node.input.pop()
        if not all(name in constants for name in node.input):
            nodes.append(node)
            continue
        values = ReferenceEvaluator(node).run(
            None, {name: numpy_helper.to_array(constants[name]) for name in node.input}
        )
        for name, value in zip(node.output, values, strict=True):
            constants[name] = numpy_helper.from_array(value, name)
    used = {name for node in nodes for name in node.input}
    graph.initializer.extend(constant for name, constant in constants.items() if name in used)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.output[0].type.tensor_type.ClearField("shape")  # tracing left names where there are numbers
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def check(model: ModelProto, opset: int) -> None:
    """Valid ONNX, and what ATC needs beyond: one opset, the one asked for; Pad with constant amounts and no axes."""
    onnx.checker.check_model(model, full_check=True)
    imports = [(entry.domain, entry.version) for entry in model.opset_import]
    if imports != [("", opset)]:
        raise RuntimeError(f"The exporter wrote opsets {imports} where {opset} alone was asked for.")
    numbers = {initializer.name for initializer in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Pad" and (len(node.input) > 3 or node.input[1] not in numbers):
            raise RuntimeError(f"Pad {node.name} has axes or computed amounts, which ATC does not take.")
