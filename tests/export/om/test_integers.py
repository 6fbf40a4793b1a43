"""Which refusals of atc are of the integers of a file: texts as CANN's sources have them (see
components/export/om/integers.py), or as users of it showed them."""

from pathlib import Path

import pytest

from components.export.config import ExportConfig
from components.export.om.integers import IntegerParts, refused_integers
from components.export.onnx_graph.file import to_onnx
from components.export.onnx_graph.norm import with_graph_norm
from components.export.proof_maps import generated_maps
from shared.deployed.form import Form
from shared.networks.checkpoint import load_generator
from tests import tiny

BLOCK = """\
Optype [{}] of Ops kernel [AIcoreEngine] is unsupported. Reason: [tbe-custom]:op type {} is not \
found in this op store.[Dynamic shape check]: data type {} of {} is not supported. All supported \
data type and format of tensor input0.x is: Data Type: {{DT_FLOAT16,DT_INT32,DT_UINT8}}Format:{{ND}}
        No supported Ops kernel and engine are found for [{}], optype [{}]."""


def block(name: str, operator: str, dtype: str, place: str = "input [x]") -> str:
    return BLOCK.format(operator, operator, dtype, place, name, operator)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """The real file in its forms."""
    folder = tmp_path_factory.mktemp("model")
    tiny.model(folder, tiny.architecture())
    card, generator = load_generator(folder)

    def graph(**options):
        config = ExportConfig(**options)
        form = Form(card.architecture, config.graph(0), size=(card.height, card.width))
        deployed = with_graph_norm(form.synthesiser(generator), config)
        (maps,) = generated_maps(card.architecture, 1, form.size)
        return to_onnx(deployed, form.feed(maps), Path(folder, "g.onnx"), config, {})

    return {
        "maps": graph(),
        "int16": graph(ids="int16", precision="fp16", instance_norm="native"),
        "uint8": graph(output="uint8"),
        "onehot": graph(form="onehot"),
    }


IDS = {
    "a node, by its name": block("/Cast", "Cast", "DT_UINT8"),
    "one that reads no ids itself": "EZ3003: No supported Ops kernel and engine are found for "
    "[/Max_2], optype [Maximum].",
    "the format since 2025": "[PID: 7] 2025-12-20-22:25:54.4 Unsupported_Operator(EZ3003): No "
    "supported Ops kernel and engine are found for [/Equal], optype [Equal].",
    "a type of ids": "EZ3002: Optype [Cast] of Ops kernel [AIcoreEngine] is unsupported. Reason: "
    "[Static shape check]:data type DT_UINT8 of input [x] is not supported.",
    "an operator's own check": "E70003: In op[Equal_7], the dtype of input[x1] should be one of "
    "[float16, float], but actually is [DT_INT32].",
    "an input": "E14001: Argument DT_UINT8 for Op labels with optype Data is invalid. Reason: the "
    "dtype of the input is not supported.",
    "two types": "E89999: op[/Equal_1], The /Equal_1 op dtype is not same, type1:DT_INT64, "
    "type2:DT_INT32[FUNC:CheckTwoInputDtypeSame]",
    "no type of CANN": "E19999: tensor_proto data type 2 is undefined.",
    "an operator that CANN puts in": "EZ3003: No supported Ops kernel and engine are found for "
    "[OneHot_3], optype [OneHotD].",
    "another name": "EZ3003: No supported Ops kernel and engine are found for [Cast_1], optype "
    "[Cast].",
    "no parser": "E19010: No parser is registered for Op [/Unsqueeze, optype "
    "[ai.onnx::17::Unsqueeze]].",
    "no parser, without a name": "E16002: No ONNX parser is registered for optype "
    "[ai.onnx::17::Equal].",
    "a kernel that is not built": "E20001: Failed to compile Op [/Slice_1,[/Slice_1]].",
}
OTHERS = {
    "an operator of the generator": block(f"/generator/{'model/model.0'}/Pad", "PadV3", "DT_INT32"),
    "the generator's norm": block("/generator/model/model.2/Cast", "Cast", "DT_BOOL"),
    "the generator as well": block("/Cast", "Cast", "DT_UINT8")
    + "\nNo supported Ops kernel and engine are found for [/generator/model/model.1/Conv], optype "
    "[Conv2D].",
    "floats": "EZ3002: Optype [MaxPoolV3] of Ops kernel [AIcoreEngine] is unsupported. Reason: "
    "data type DT_FLOAT of input [x] is not supported. All supported data type and format of "
    "tensor input0.x is: Data Type: {DT_FLOAT16,DT_UINT8}Format:{NC1HWC0}.",
    "amounts of a Pad": "EZ3002: Optype [PadV3] of Ops kernel [AIcoreEngine] is unsupported. "
    "Reason: data type DT_INT32 of input [paddings] is not supported.",
    "floats, where integers are wanted": "E70003: In op[Gather], the dtype of input[indices] "
    "should be one of [DT_INT32, DT_UINT8], but actually is [DT_FLOAT].",
    "what CANN puts between": "EZ3003: No supported Ops kernel and engine are found for "
    "[trans_Cast_6], optype [Cast].",
    "another operator without a parser": "E16002: No ONNX parser is registered for optype "
    "[ai.onnx::17::Pad].",
    "the chip": "E10001: Value Ascend1 for parameter --soc_version is invalid. Reason: x",
    "shapes": "E10049: Dimension count 4 configured in --input_shape does not match dimension "
    "count 3 of the node labels.",
    "a model": "E10041: Failed to load the model from /labels/dtype/g.onnx.",
    "memory": "ATC run failed\nexit status 137",
    "words without a block": "labels: [/Cast] 3 s",
}


@pytest.mark.parametrize("case", IDS)
def test_ids(graphs, case):
    assert refused_integers(IDS[case], graphs["maps"]) == "ids"
    assert refused_integers(IDS[case], graphs["onehot"]) is None


@pytest.mark.parametrize("case", OTHERS)
def test_other_refusals(graphs, case):
    for form, graph in graphs.items():
        assert refused_integers(OTHERS[case], graph) is None, form


def test_ids_of_16_bits_in_a_file_of_fp16(graphs):
    assert IntegerParts.of(graphs["int16"]).id_types == {"UINT8", "INT16"}
    text = block("StridedSlice", "StridedSliceV2", "DT_INT16")
    assert refused_integers(text, graphs["int16"]) == "ids"
    assert refused_integers(text, graphs["maps"]) == "ids", "by its operator"
    # which casts the picture back
    text = block("graph_output_cast0", "Cast", "DT_FLOAT16")
    assert refused_integers(text, graphs["int16"]) is None


def test_a_picture_of_bytes(graphs):
    text = block("/Cast_9", "Cast", "DT_UINT8", "output [y]")
    assert refused_integers(text, graphs["uint8"]) == "picture"
    assert refused_integers(block("/Cast", "Cast", "DT_UINT8"), graphs["uint8"]) == "ids"
    assert IntegerParts.of(graphs["uint8"]).picture >= {"/Round", "/Clip", "/Cast_9"}
    assert IntegerParts.of(graphs["maps"]).picture == set()


@pytest.mark.parametrize(
    "options, advised",
    [
        ({}, "--form onehot, or --om-fallback onehot, which does that by itself."),
        (
            dict(ids="int16", labels="int32"),
            "--form onehot without --labels int32 and --ids int16, or --om-fallback onehot, which "
            "does that by itself.",
        ),
        (dict(style="label"), "--form onehot without --style label."),
    ],
)
def test_advice_that_the_config_takes(options, advised):
    config = ExportConfig(format="om", **options)
    assert config.advice_on_ids().endswith(f"; say {advised}")
    seeds = ExportConfig(**config.in_channels().model_dump())  # checked
    assert seeds.form == "onehot" and seeds.format == "om"


def test_a_fallback_cannot_take_styles_as_input():
    with pytest.raises(ValueError, match="--om-fallback onehot with --style map: in that form"):
        ExportConfig(format="om", style="map", om_fallback="onehot")
