"""Stand-in for Ascend's atc, whose .om the stand-in of ais_bench can run: the ONNX file with the
batch that was asked.

Words and exit statuses are those of ASCEND.md 5.2. What it shall do else than compile is said by
environment variables:
  ATC_STAND_IN_FAILS   an error, such as "E10041: Failed to load the model."
  ATC_STAND_IN_REFUSES a type, such as UINT8: there is no kernel for the first operator that reads
                       an input of it; or an operator, such as InstanceNormalization
  ATC_STAND_IN_SCALES  a factor: the weights of the last convolution are multiplied by it
"""

import os
import sys
from pathlib import Path

import onnx
from onnx import numpy_helper

KNOWN = (
    "model framework output input_format input_shape soc_version log dynamic_batch_size "
    "precision_mode_v2"
).split()


def main() -> int:
    print("ATC start working now, please wait for a moment.\n...", flush=True)
    given = dict(flag.removeprefix("--").split("=", 1) for flag in sys.argv[1:])
    if unknown := [name for name in given if name not in KNOWN]:
        return fail(
            f"E10001: Value {given[unknown[0]]} for parameter {unknown[0]} is invalid. Reason: "
            "unknown."
        )
    if given["framework"] != "5" or not given["soc_version"].startswith("Ascend"):
        return fail(
            "E10001: Value for parameter --framework or --soc_version is invalid. Reason: not "
            "supported."
        )
    if "ATC_STAND_IN_FAILS" in os.environ:
        return fail(os.environ["ATC_STAND_IN_FAILS"])
    model = onnx.load(given["model"])
    if block := refusal(model, os.environ.get("ATC_STAND_IN_REFUSES", "nothing")):
        return fail(block)
    shapes = {}
    for entry in given["input_shape"].split(";"):
        name, axes = entry.split(":")
        shapes[name] = [int(axis) for axis in axes.split(",")]
    if problem := set_batch(model, shapes):
        return fail(problem)
    if "ATC_STAND_IN_SCALES" in os.environ:
        scale_last_convolution(model, float(os.environ["ATC_STAND_IN_SCALES"]))
    gears = given.get("dynamic_batch_size", "")
    onnx.helper.set_model_props(
        model, {"soc_version": given["soc_version"], "dynamic_batch_size": gears}
    )
    onnx.save(model, f"{given['output']}.om")
    Path("fusion_result.json").write_text("{}")  # it leaves some in its working directory
    print("ATC run success, welcome to the next use.")
    return 0


def fail(error: str) -> int:
    plogs = Path.home() / "ascend" / "log" / "debug" / "plog"
    plogs.mkdir(parents=True, exist_ok=True)
    (plogs / f"plog-{os.getpid()}_20261121101010101.log").write_text("[ERROR] GE")
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    code, _, reason = error.partition(": ")
    print(f"{code}: [PID: {os.getpid()}] 2026-11-21-10:10:10.101.101 {reason}")
    print("        TraceBack (most recent call last):\n")
    return 255


def refusal(model: onnx.ModelProto, refused: str) -> str:
    """The block of CANN (op_common's log.cpp, FE's sub_ops_store.cc) for the first operator that is
    refused; "" for a file without."""
    types = {
        value.name: onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        for value in model.graph.input
    }
    for node in model.graph.node:
        read = [types.get(name) for name in node.input]
        if refused not in (node.op_type, *read):
            continue
        reason = f"[tbe-custom]:op type {node.op_type} is not found in this op store."
        if refused in read:
            reason += (
                f"[Dynamic shape check]: data type DT_{refused} of input [x] is not supported. "
                "All supported data type and format of tensor input0.x is: Data Type: "
                "{DT_FLOAT16,DT_FLOAT}Format:{ND,ND}."
            )
        return (
            f"EZ3002: Optype [{node.op_type}] of Ops kernel [AIcoreEngine] is unsupported. "
            f"Reason: {reason}\n        TraceBack (most recent call last):\n"
            "        No supported Ops kernel and engine are found for "
            f"[{node.name}], optype [{node.op_type}]."
        )
    return ""


def set_batch(model: onnx.ModelProto, shapes: dict[str, list[int]]) -> str:
    """Of all inputs and the outputs; -1 = one of the gears. Returns what is wrong."""
    batch = next(iter(shapes.values()))[0]
    inputs = {value.name: value for value in model.graph.input}
    if missing := shapes.keys() - inputs.keys():
        return (
            f"E10016: Op name {min(missing)} specified in --input_shape is not found in the model."
        )
    for name, shape in shapes.items():
        axes = inputs[name].type.tensor_type.shape.dim
        if [axis.dim_value for axis in axes[1:]] != shape[1:] or axes[0].dim_value not in (
            0,
            shape[0],
        ):
            return (
                "E10001: Value for parameter --input_shape is invalid. Reason: differs from "
                "the model."
            )
    for value in [*inputs.values(), *model.graph.output]:
        axis = value.type.tensor_type.shape.dim[0]
        axis.ClearField("value")
        if batch == -1:
            axis.dim_param = "batch"
        else:
            axis.dim_value = batch
    del model.graph.value_info[:]
    return ""


def scale_last_convolution(model: onnx.ModelProto, factor: float) -> None:
    name = [node for node in model.graph.node if node.op_type == "Conv"][-1].input[1]
    weight = next(one for one in model.graph.initializer if one.name == name)
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), name))


if __name__ == "__main__":
    sys.exit(main())
