"""Which integers of a file atc refuses: the ids that come in, or the picture of 0 .. 255 that goes
out.

A file with maps as input has three parts. Operators on ids make the channels, the generator
computes on floats, and with --output uint8 the picture is rounded. What atc refuses in the first
part is not in the seed's file, whose channels the host makes; of the second it is in both."""

import re
from dataclasses import dataclass, field
from typing import Literal, Self

from onnx import ModelProto, TensorProto

from components.export.om.atc import AtcFailed

GENERATOR = "/generator/"  # the name of each of its nodes has it: of `Synthesiser.generator`
INTEGERS = ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32")
# What ids are conditioned with, in ONNX and as CANN calls it; what the generator has is taken out.
OF_IDS = frozenset(
    "OneHot Gather GatherElements Scatter ScatterElements ScatterNd Equal NotEqual Not "
    "Unsqueeze ExpandDims".split()
)

# Lines of atc that tell of an operator or a type that it does not take. Texts: hicann/ge 0241e896
# (error_registry.cc, sub_ops_store.cc, onnx_data_parser.cc); op_common's log.cpp of CANN's operator
# packages (E7xxxx, EZ0007, EZ3002, EZ3003).
REFUSES = re.compile(
    r"is unsupported|No supported Ops kernel|[Ff]ailed to select engine|parser is registered"
    r"|is not registered|[Ff]ailed to compile [Oo]p|\bdtype|data type|\bDT_[A-Z]"
)
# Types that it lists as good: {DT_FLOAT16,DT_FLOAT}, or "should be one of [...]".
GOOD_TYPES = re.compile(r"\{[^}]*\}|should be (?:one of )?(?:\[[^\]]*\]|[A-Z0-9_, ]+)")
OPTYPE = re.compile(r"[Oo]ptype \[?(?:ai\.onnx::\d+::)?(\w+)")
NAMED = re.compile(r"\[(?!trans_)[^\[\],]+\]?, optype|Op (?!trans_)[^\s\[]+ with optype")
NUMBERED_TYPE = re.compile(r"tensor_proto data type (\d+) is undefined")


class IdsRefused(AtcFailed):
    """atc does not take the integers of --form maps: the seed's form has none."""


@dataclass(frozen=True)
class IntegerParts:
    """What a file has outside of the generator."""

    ids: set[str] = field(default_factory=set)  # names of inputs of integers, and of nodes
    picture: set[str] = field(default_factory=set)  # names of nodes behind the generator
    id_types: set[str] = field(default_factory=set)  # of the inputs, such as UINT8
    id_operators: set[str] = field(default_factory=set)  # of nodes that read them
    generator_operators: set[str] = field(default_factory=set)
    picture_type: str = ""

    @classmethod
    def of(cls, model: ModelProto) -> Self:
        """Of a file with its shapes; nodes are in topological order."""
        parts = cls(picture_type=_type_name(model.graph.output[0]))
        types = {value.name: _type_name(value) for value in model.graph.value_info}
        for value in model.graph.input:
            types[value.name] = _type_name(value)
            if types[value.name] in INTEGERS:
                parts.ids.add(value.name)
                parts.id_types.add(types[value.name])

        generated = set()  # tensors
        for node in model.graph.node:
            if GENERATOR in node.name:
                parts.generator_operators.add(node.op_type)
                generated.update(node.output)
            elif not generated.isdisjoint(node.input):
                parts.picture.add(node.name)
                generated.update(node.output)
            else:
                parts.ids.add(node.name)
                if any(types.get(name) in (*INTEGERS, "BOOL") for name in node.input):
                    parts.id_operators.add(node.op_type)
        return parts


def refused_integers(words: str, model: ModelProto) -> Literal["ids", "picture"] | None:
    """The integers that atc does not take; None where it refuses something else, or the generator
    as well.

    Args:
        words: What it said.
        model: The file, with its shapes.
    """
    parts = IntegerParts.of(model)
    if not parts.id_types and parts.picture_type not in INTEGERS:
        return None
    lines = [line for line in words.splitlines() if REFUSES.search(line)]
    if any(GENERATOR in line for line in lines):
        return None
    if any(_names(line, parts.ids) for line in lines):
        return "ids"
    if any(_names(line, parts.picture) for line in lines):
        return "picture" if parts.picture_type in INTEGERS else None
    return "ids" if any(_of_ids(line, parts) for line in lines) else None


def _of_ids(line: str, parts: IntegerParts) -> bool:
    """Whether a line that names no node of the file refuses an operator that ids alone have, or
    their type."""
    if number := NUMBERED_TYPE.search(line):
        return int(number[1]) in map(TensorProto.DataType.Value, parts.id_types)

    # Types of its own, without those that it would take, and of its output that of the picture.
    bare = GOOD_TYPES.sub("", line)
    types = set(re.findall(r"\bDT_([A-Z0-9]+)", bare))
    if "of output" in bare:
        types.discard(parts.picture_type)
    operator = OPTYPE.search(line)
    if operator is None:
        return not types.isdisjoint(parts.id_types)

    # GatherV2, OneHotD, LogicalNot, StridedSliceV2: CANN's names of ONNX's operators.
    kind = re.sub(r"^(Logical|Strided)|(D|V\d)$", "", operator[1])
    on_ids = kind in parts.id_operators or kind in OF_IDS - parts.generator_operators
    if types:
        return on_ids and not types.isdisjoint(parts.id_types)
    return on_ids and bool(NAMED.search(line) or kind not in parts.generator_operators)


def _names(line: str, names: set[str]) -> bool:
    return any(re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w./-])", line) for name in names)


def _type_name(value) -> str:
    return TensorProto.DataType.Name(value.type.tensor_type.elem_type)
