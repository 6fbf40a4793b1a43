"""The same file with convolutions in int8: QuantizeLinear and DequantizeLinear around them, as ONNX
Runtime and OpenVINO read it."""

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from components.export.config import OnnxOptions
from components.export.onnx_graph.file import check, data_file, save
from shared.deployed.form import Feeds

OF_GENERATOR = "/generator/"  # start of the names of its nodes
CONVOLUTIONS = ("Conv", "ConvTranspose")


def quantise(file: Path, twin: Path, batches: Iterable[Feeds], options: OnnxOptions) -> None:
    """Write the int8 twin of an fp32 file.

    Args:
        batches: Inputs as the file takes them, on which the ranges of the 8-bit numbers are
            measured: least and largest of each map.
    """
    model = onnx.load(file, load_external_data=False)
    # It warns that shapes were not inferred and nothing was folded before: both were.
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(prefix=".int8-", dir=twin.parent) as work:
            quantised = Path(work, twin.name)
            quantize_static(
                file,
                quantised,
                Batches(batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=in_int8(model),
                # Of a scale for each output channel; the fastest types of CPUs.
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                use_external_data_format=data_file(file).is_file(),
            )
            found = onnx.load(quantised)
    finally:
        logging.disable(logging.NOTSET)

    # It says of itself what the other says, but for its arithmetic.
    facts = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(found, facts | {"precision": "int8"})
    save(found, twin, options.external_data_above_mb)
    check(twin, options.opset, for_atc=False)


def in_int8(model: ModelProto) -> list[str]:
    """Names of the nodes that compute in int8: every Conv of the generator but the one that makes
    the picture.

    That one and the ConvTransposes cost most: of a trained generator (ngf 32, 160x192) a picture
    has 49.6 dB of PSNR against that of fp32 where the last alone is in int8, 42.3 to 51.5 dB with
    one of its ConvTransposes, 55.6 dB or more with any other, the first too; and ONNX Runtime has
    no int8 kernel for ConvTranspose. Norms, paddings and activations compute in fp32."""
    layers = [
        node
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS and node.name.startswith(OF_GENERATOR)
    ]
    return [node.name for node in layers[:-1] if node.op_type == "Conv"]


class Batches(CalibrationDataReader):
    """Batches in the form in which ONNX Runtime's quantiser asks for them."""

    def __init__(self, batches: Iterable[Feeds]):
        self.batches = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)
