"""What a deployed file reads and writes, for people."""

from onnx import ModelProto, ValueInfoProto, helper

from shared.contracts.exported import Graph, TensorSpec
from shared.contracts.model import Architecture, PhotoChannels

MEANINGS = {
    "labels": "label ids, 0 .. {last_label}; others have no channel",
    "image": "picture of 0 .. 255",
    "instances": "instance ids, any integers: only where neighbours differ matters",
    "features": "instance features in [-1, 1]",
    "input_concat": (
        "one-hot labels, or the picture in [-1, 1]; edges, 0 or 1; instance features in [-1, 1]"
    ),
}
STYLES = {
    "label": "features in [-1, 1] of every label, last of pixels without label",
    "instance": "features in [-1, 1] of every instance; the ids in instances are rows of it",
}
RANGES = {"float": "in [-1, 1]", "uint8": "of 0 .. 255"}


def meaning_of_output(graph: Graph, output_nc: PhotoChannels) -> str:
    """What the numbers of the picture are."""
    return f"{'grey' if output_nc == 1 else 'RGB'} picture {RANGES[graph.output]}"


def meaning_of_input(name: str, graph: Graph, num_labels: int) -> str:
    """What the numbers of an input are."""
    if name == "style":
        return STYLES[graph.style]
    return MEANINGS[name].format(last_label=num_labels - 1)


def specs(model: ModelProto, graph: Graph, a: Architecture) -> dict[str, list[TensorSpec]]:
    """Inputs and outputs of a graph, as ExportCard has them."""
    made = meaning_of_output(graph, a.output_nc)
    return {
        "inputs": [
            _spec(value, meaning_of_input(value.name, graph, a.num_labels))
            for value in model.graph.input
        ],
        "outputs": [_spec(value, made) for value in model.graph.output],
    }


def _spec(value: ValueInfoProto, meaning: str) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
    return TensorSpec(name=value.name, dtype=str(dtype), shape=shape, meaning=meaning)
