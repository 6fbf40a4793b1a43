"""What Ascend's ATC can read: found in the file itself, before the compiler is asked."""

from collections.abc import Iterator

import onnx
from onnx import ModelProto, NodeProto, numpy_helper

DOMAINS = ("", "ai.onnx")  # two spellings of ONNX's own
OPSETS = range(11, 19)

# ATC finds the parser of a node by domain, opset and type, so one that is not registered stops it
# (E16002, E19010). These are registered at every opset of 11 to 18 that has them: read from the
# ONNX plugins of CANN's operator packages (hicann/ops-nn e5c3fa93, ops-math c4193324, ops-cv
# 6ae87653); Constant belongs to the parser itself (hicann/ge ffdcbc9f). ReduceL1 and ReduceL2 end
# at 17.
OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip
    Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Conv ConvTranspose Cos Cosh
    CumSum DepthToSpace Det Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU
    Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual GridSample HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf
    IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization
    LpPool MatMul Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul
    Multinomial Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ReverseSequence RoiAlign Round ScatterElements ScatterND Selu SequenceAt SequenceConstruct
    SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape Shrink Sigmoid Sign Sin Sinh
    Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split SplitToSequence
    Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Where
    Xor
    """.split()
)


def problems(model: ModelProto, static: bool = False) -> list[str]:
    """Why ATC would not read this valid ONNX model, a sentence each that names the node; [] =
    nothing found.

    static: also that only the batch, the first axis of an input or output, may be open.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = list(_opsets(model))
    for node in _nodes(model.graph):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        if node.domain not in DOMAINS:
            found.append(
                f"{_name(node)} is an operator of {node.domain}, for which ATC has no parser."
            )
        elif node.op_type not in OPERATORS:
            found.append(f"{_name(node)} is an operator for which ATC has no parser.")
        elif node.op_type == "Pad":
            found += _pad(node, constants)
        elif node.op_type in ("Conv", "ConvTranspose") and "kernel_shape" not in _attributes(node):
            found.append(f"{_name(node)} has no kernel_shape, which ATC needs.")
    return found + list(_open_axes(model.graph)) if static else found


def _opsets(model: ModelProto) -> Iterator[str]:
    imports = [(entry.domain or "ai.onnx", entry.version) for entry in model.opset_import]
    if len(imports) != 1 or imports[0][0] not in DOMAINS:
        listed = ", ".join(f"{domain} {version}" for domain, version in imports) or "none"
        yield f"The model imports the opsets {listed}, but ATC takes exactly one, of ai.onnx."
    elif imports[0][1] not in OPSETS:
        yield (
            f"The model has opset {imports[0][1]}, but ATC has parsers for {OPSETS[0]} to "
            f"{OPSETS[-1]}."
        )


def _pad(node: NodeProto, constants: dict[str, onnx.TensorProto]) -> Iterator[str]:
    mode = _attributes(node).get("mode", b"constant").decode()
    if mode not in ("constant", "reflect", "edge"):
        yield f"{_name(node)} has mode {mode}, but ATC pads by constant, reflect and edge."
    # The last two are optional, and absent ones are "".
    _, amounts, value, axes, *_ = [*node.input, "", "", ""]
    if amounts not in constants:
        yield (
            f"{_name(node)} takes its amounts from {amounts!r}, which is computed, but ATC "
            "needs a constant."
        )
    if axes:
        yield f"{_name(node)} has axes, which ATC ignores: it would pad others."
    if mode == "constant" and value:
        if value not in constants:
            yield (
                f"{_name(node)} pads with {value!r}, which is computed, but ATC pads with 0 alone."
            )
        elif (number := numpy_helper.to_array(constants[value]).item()) != 0:
            yield f"{_name(node)} pads with {number:g}, but ATC pads with 0 alone."


def _open_axes(graph: onnx.GraphProto) -> Iterator[str]:
    weights = {tensor.name for tensor in graph.initializer}
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            axes = value.type.tensor_type.shape.dim
            lengths = [axis.dim_value or axis.dim_param or "?" for axis in axes]
            if value.name not in weights and not all(
                isinstance(length, int) for length in lengths[1:]
            ):
                shape = "x".join(map(str, lengths))
                yield f"The {kind} {value.name!r} is {shape}, but only its first axis may be open."


def _nodes(graph: onnx.GraphProto) -> Iterator[NodeProto]:
    """Also those in the branches of an If."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _attributes(node: NodeProto) -> dict[str, object]:
    return {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
    }


def _name(node: NodeProto) -> str:
    """How people find the node: type and name, or where it has none its output's."""
    return f"{node.op_type} {node.name or node.output[0]!r}"
