"""What ATC cannot read: small graphs, each broken in one way, and the sentence that names the
node."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.export.om.atc_rules import OPERATORS, problems

X = ["batch", 3, 8, 8]


def constant(name, *values, dtype=np.int64):
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(*nodes, constants=(), opsets=(("", 13),), shape=X):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(constants),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in opsets])


PADS = constant("pads", 0, 0, 1, 1, 0, 0, 1, 1)
WEIGHT = constant("w", *np.ones((4, 3, 3, 3)).tolist(), dtype=np.float32)


def pad(*inputs, **attributes):
    return helper.make_node("Pad", ["x", *inputs], ["y"], name="/enhancer/Pad_3", **attributes)


def test_a_network_that_atc_reads_has_no_problems():
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"], mode="reflect"),
        helper.make_node("Conv", ["padded", "w"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("ConvTranspose", ["c", "v"], ["d"], kernel_shape=[3, 3]),
        helper.make_node("Tanh", ["d"], ["y"]),
    ]
    readable = model(
        *nodes, constants=[PADS, WEIGHT, constant("v", *np.ones((4, 3, 3, 3)), dtype=np.float32)]
    )
    readable = onnx.shape_inference.infer_shapes(readable, strict_mode=True)
    onnx.checker.check_model(readable, full_check=True)
    assert problems(readable, static=True) == []


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_opsets_that_it_has_parsers_for(opset, domain):
    relu = helper.make_node("Relu", ["x"], ["y"])
    assert problems(model(relu, opsets=[(domain, opset)])) == []


@pytest.mark.parametrize(
    "opsets, sentence",
    [
        ([("", 20)], "The model has opset 20, but ATC has parsers for 11 to 18."),
        ([("", 10)], "The model has opset 10, but ATC has parsers for 11 to 18."),
        (
            [("", 17), ("com.microsoft", 1)],
            "The model imports the opsets ai.onnx 17, com.microsoft 1, but ATC takes exactly one, "
            "of ai.onnx.",
        ),
        (
            [("", 17), ("", 13)],
            "The model imports the opsets ai.onnx 17, ai.onnx 13, but ATC takes exactly one, of "
            "ai.onnx.",
        ),
        (
            [("ai.onnx.ml", 3)],
            "The model imports the opsets ai.onnx.ml 3, but ATC takes exactly one, of ai.onnx.",
        ),
    ],
)
def test_opsets(opsets, sentence):
    assert problems(model(helper.make_node("Relu", ["x"], ["y"]), opsets=opsets)) == [sentence]


def test_operators_without_a_parser_are_named():
    group_norm = helper.make_node(
        "GroupNormalization", ["x", "s", "b"], ["z"], name="/norm/G", num_groups=1
    )
    # Without a name it is called by its output.
    gelu = helper.make_node("FastGelu", ["z"], ["y"], domain="com.microsoft")
    assert problems(model(group_norm, gelu)) == [
        "GroupNormalization '/norm/G' is an operator for which ATC has no parser.",
        "FastGelu 'y' is an operator of com.microsoft, for which ATC has no parser.",
    ]


def test_operators_in_the_branches_of_an_if_count():
    branch = helper.make_graph(
        [
            helper.make_node(
                "Scan", ["x"], ["z"], name="/inner/Scan", num_scan_inputs=1, body=onnx.GraphProto()
            )
        ],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    both = dict(then_branch=branch, else_branch=onnx.GraphProto())
    assert problems(model(helper.make_node("If", ["x"], ["y"], **both))) == [
        "Scan '/inner/Scan' is an operator for which ATC has no parser."
    ]


def test_the_table_holds_what_our_networks_consist_of():
    """ASCEND.md 5.3, and what the graph around the generator needs."""
    documented = """Conv ConvTranspose InstanceNormalization BatchNormalization Relu LeakyRelu
        Tanh Sigmoid AveragePool
        Add Mul Concat Slice Reshape Shape ConstantOfShape Cast Transpose ReduceMean Pad
        Resize OneHot ScatterElements"""
    ours = (
        "MatMul Gather Equal Or And Not Max Sub Div Sqrt Clip Round Floor Range Expand "
        "Unsqueeze Squeeze Where"
    )
    assert set(documented.split() + ours.split()) <= OPERATORS
    assert {schema.name for schema in onnx.defs.get_all_schemas()} > OPERATORS, (
        "a name that ONNX does not have"
    )


ONE = constant("one", 1.5, dtype=np.float32)


@pytest.mark.parametrize(
    "node, constants, sentence",
    [
        (
            pad("pads", mode="reflect"),
            [],
            "takes its amounts from 'pads', which is computed, but ATC needs a constant.",
        ),
        (
            pad("pads", "", "axes"),
            [PADS, constant("axes", 2, 3)],
            "has axes, which ATC ignores: it would pad others.",
        ),
        (
            pad("pads", mode="wrap"),
            [PADS],
            "has mode wrap, but ATC pads by constant, reflect and edge.",
        ),
        (pad("pads", "one"), [PADS, ONE], "pads with 1.5, but ATC pads with 0 alone."),
        (pad("pads", "v"), [PADS], "pads with 'v', which is computed, but ATC pads with 0 alone."),
    ],
)
def test_pad(node, constants, sentence):
    found = problems(model(node, constants=constants, opsets=[("", 18)]))
    assert found == [f"Pad '/enhancer/Pad_3' {sentence}"]


def test_pads_that_it_reads():
    zero = constant("zero", 0, dtype=np.float32)
    assert problems(model(pad("pads", "zero"), constants=[PADS, zero])) == []
    assert problems(model(pad("pads", mode="edge"), constants=[PADS])) == []
    written = helper.make_node("Constant", [], ["pads"], value=PADS)
    assert problems(model(written, pad("pads", mode="reflect"))) == []


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_convolutions_carry_their_kernel_shape(op):
    node = helper.make_node(op, ["x", "w"], ["y"], name="/up/c", strides=[2, 2])
    assert problems(model(node, constants=[WEIGHT])) == [
        f"{op} '/up/c' has no kernel_shape, which ATC needs."
    ]


def test_open_axes_where_static_shapes_are_asked():
    relu = helper.make_node("Relu", ["x"], ["y"])
    assert problems(model(relu), static=True) == []
    open_height = onnx.shape_inference.infer_shapes(model(relu, shape=["batch", 3, "height", 8]))
    assert problems(open_height) == []
    assert problems(open_height, static=True) == [
        f"The {name} is batchx3xheightx8, but only its first axis may be open."
        for name in ("input 'x'", "output 'y'")
    ]


def test_all_problems_are_told_at_once():
    nodes = (
        pad("pads", mode="wrap"),
        helper.make_node("Loop", ["y"], ["z"], name="l", body=onnx.GraphProto()),
    )
    found = problems(model(*nodes, opsets=[("", 20)]))
    assert [sentence.split()[0] for sentence in found] == ["The", "Pad", "Pad", "Loop"]
    assert all(sentence.endswith(".") and ". " not in sentence for sentence in found)
