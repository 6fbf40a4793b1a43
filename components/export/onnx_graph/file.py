"""The network as an ONNX file: traced, tidied, checked. It lies in a folder of work until it is
proven."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import Tensor, nn

from components.export.config import OnnxOptions
from components.export.om.atc_rules import problems
from shared.deployed.form import Feeds
from shared.deployed.synthesiser import Synthesiser
from shared.errors import InputError, WorkFailed
from shared.networks.layers import padded_side, reflected

BATCH, HEIGHT, WIDTH, INSTANCES = "batch", "height", "width", "instances"  # names of dynamic axes
# Of an InstanceNorm written out, which stays fp32.
NORM_OPS = ["ReduceMean", "Sub", "Mul", "Sqrt", "Div"]
NORM_OPS += ["ReduceMax", "ReduceMin", "Abs", "Greater"]


def to_onnx(
    synthesiser: Synthesiser,
    example: Feeds,
    path: Path,
    options: OnnxOptions,
    facts: dict[str, str],
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> ModelProto:
    """Write the whole of `synthesiser` as one ONNX file, or two where it is large, and return its
    graph.

    Args:
        example: Inputs of a batch, see `shared.deployed.form.Form.feed`; axes that are not dynamic
            get its lengths.
        facts: What the file says of itself; ONNX Runtime gives it as `custom_metadata_map`.
        dynamic_size: any H and W.
    """
    axes = dynamic_axes(synthesiser, example, dynamic_batch, dynamic_size)
    if dynamic_size:
        reads, style, graph = synthesiser.reads, synthesiser.style, synthesiser.graph
        synthesiser = Synthesiser(Padded(synthesiser.generator), reads, style, graph).eval()

    # The tracing exporter honours every opset that Ascend's ATC has parsers for, 11 to 18. The
    # newer one (dynamo=True) starts at 18 and, as Pad cannot be converted down, stays there without
    # an error. Tidied, both graphs are alike.
    with (
        tempfile.TemporaryDirectory(prefix=".traced-", dir=path.parent) as work,
        warnings.catch_warnings(),
    ):
        # that tracing is old, and that InstanceNorm is "in training mode"
        warnings.simplefilter("ignore")
        traced = str(Path(work, "traced.onnx"))
        torch.onnx.export(
            synthesiser,
            tuple(torch.from_numpy(example[name]) for name in synthesiser.input_names),
            traced,  # of a Path torch makes one file, which ends at 2 GB
            dynamo=False,
            opset_version=options.opset,
            input_names=synthesiser.input_names,
            output_names=[synthesiser.output_name],
            dynamic_axes=axes,
        )
        model = onnx.load(traced)

    # Tidied, in its precision, checked.
    model = fold_constants(model)
    if not dynamic_size:  # tracing left names where there are numbers
        model.graph.output[0].type.tensor_type.ClearField("shape")
    if options.precision == "fp16":
        model = to_fp16(model)
    onnx.helper.set_model_props(model, facts)
    save(model, path, options.external_data_above_mb)
    return check(path, options.opset, for_atc=not dynamic_size)


def dynamic_axes(
    synthesiser: Synthesiser, example: Feeds, dynamic_batch: bool, dynamic_size: bool
) -> dict[str, dict[int, str]]:
    """Names of the dynamic axes by input and output, as torch.onnx.export takes them."""
    ranks = {name: array.ndim for name, array in example.items()} | {synthesiser.output_name: 4}
    axes = {}
    for name, rank in ranks.items():
        axes[name] = {0: BATCH} if dynamic_batch else {}
        if name == "style":
            axes[name] |= {1: INSTANCES} if synthesiser.graph.style == "instance" else {}
        elif dynamic_size:
            axes[name] |= {rank - 2: HEIGHT, rank - 1: WIDTH}
    return axes


class Padded(nn.Module):
    """The padding to the generator's stride as part of the graph, whatever the size: see
    `shared.networks.layers.at_stride`."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]  # while tracing: of the graph, not numbers
        generator = self.generator
        wanted = (padded_side(side, generator.stride, generator.least_strides) for side in size)
        return generator(reflected(x, size, tuple(wanted)))[..., : size[0], : size[1]]


def fold_constants(model: ModelProto) -> ModelProto:
    """ATC needs the amounts of every Pad as numbers, and the static shapes follow from them."""
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
            constants[name] = numpy_helper.from_array(np.asarray(value), name)
    used = {name for node in nodes for name in node.input}
    graph.initializer.extend(constant for name, constant in constants.items() if name in used)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


def to_fp16(model: ModelProto) -> ModelProto:
    """Weights and convolutions in 16 bits; inputs, outputs, and norms stay in 32. Raises InputError
    for weights that 16 bits cannot hold, which would become the nearest that they can."""
    # What stays: of additions those of norms, which have a constant, eps or a bias.
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    of_norms = [
        node
        for node in model.graph.node
        if node.op_type in NORM_OPS
        or (node.op_type == "Add" and not constants.keys().isdisjoint(node.input))
    ]
    in_32_bits = {name for node in of_norms for name in node.input}
    for name, tensor in constants.items():
        if tensor.data_type != TensorProto.FLOAT or name in in_32_bits:
            continue
        largest = np.abs(numpy_helper.to_array(tensor)).max(initial=0)
        if largest > np.finfo(np.float16).max:
            raise InputError(
                f"--precision fp16 holds numbers up to 65504 but tensor {name} has {largest:g}: "
                "give --precision fp32."
            )
    stays = [node.name for node in of_norms]
    model = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=[], node_block_list=stays
    )

    # It casts back to 32 bits once per reader, under one name, and appends the casts.
    nodes = {node.output[0]: node for node in model.graph.node}
    del model.graph.node[:]
    model.graph.node.extend(nodes.values())
    OnnxModel.graph_topological_sort(model.graph)

    # Between two operators of a norm it casts to 16 bits and back.
    tidied = OnnxModel(model)
    tidied.remove_cascaded_cast_nodes()
    numbers = {
        node.output[0]
        for node in tidied.nodes()
        if node.name in stays and node.op_type != "Greater"
    }
    for cast in tidied.get_nodes_by_op_type("Cast"):
        if cast.input[0] in numbers and cast.attribute[0].i == TensorProto.FLOAT:
            tidied.replace_input_of_all_nodes(cast.output[0], cast.input[0])
            tidied.remove_node(cast)
    return tidied.model


def save(model: ModelProto, path: Path, external_data_above_mb: int) -> None:
    """protobuf ends at 2 GB: more goes into <path>.data."""
    size = sum(len(initializer.raw_data) for initializer in model.graph.initializer)
    external = size > external_data_above_mb * 2**20
    onnx.save(
        model,
        path,
        save_as_external_data=external,
        all_tensors_to_one_file=True,
        location=data_file(path).name,
        size_threshold=1024,
    )
    if external:
        data_file(path).chmod(path.stat().st_mode)  # onnx keeps it to the owner


def data_file(path: Path) -> Path:
    """Where the weights of a large file are."""
    return path.with_name(f"{path.name}.data")


def check(path: Path, opset: int, for_atc: bool) -> ModelProto:
    """Valid ONNX of that opset, and what ATC needs beyond. Adds the shapes to the file; returns it
    without weights."""
    onnx.shape_inference.infer_shapes_path(path, path, strict_mode=True, data_prop=True)
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    imports = [(entry.domain, entry.version) for entry in model.opset_import]
    if imports != [("", opset)]:
        raise RuntimeError(
            f"The exporter wrote opsets {imports} where {opset} alone was asked for."
        )
    if for_atc and (found := problems(model)):
        raise WorkFailed(f"Ascend's atc would not read the file: {found[0]}")
    return model
