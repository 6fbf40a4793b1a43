"""Trained generator -> a deployable file that provably equals it: ONNX, and for NPUs what atc
compiles from it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from components.export.config import DYNAMIC, ExportConfig
from components.export.om.atc import compile_om, find_atc, soc_version
from components.export.onnx_graph.dropout import check_drops, with_dropout
from components.export.onnx_graph.file import data_file, to_onnx
from components.export.onnx_graph.norm import with_precise_norm
from components.export.onnx_graph.specs import specs
from components.export.proof import om_runners, onnx_runners, prove
from components.export.proof_maps import maps_of_proof
from shared import tracking
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, OmFile
from shared.contracts.model import ModelCard
from shared.deployed.styles import Style
from shared.deployed.synthesiser import Synthesiser, feeds
from shared.errors import InputError
from shared.networks.checkpoint import load_generator
from shared.networks.layers import with_picture_statistics

FILE = "generator.onnx"


def run(
    model: Path,
    exported: Path,
    dataset: Path | None = None,
    clusters: Path | None = None,
    *,
    config: ExportConfig,
) -> dict[str, float]:
    """Export a trained generator and prove on label maps that the file equals the PyTorch model.

    Args:
        model: Folder of the train step, or one with latest_net_G.pth of NVIDIA's pix2pixHD or of
            junyanz' pix2pix.
        exported: Folder to write.
        dataset: Folder of the prepare step, on whose maps the file is proven; without it maps are
            generated.
        clusters: Folder of the cluster step; a model with instance features needs it.
    """
    # The deployed function.
    card, generator = load(model, dataset, config)
    style = load_style(model, card, clusters)
    graph = config.graph(card.architecture.feat_num)
    fixed = None if style is None else torch.from_numpy(style.by_label)
    synthesiser = Synthesiser(generator, card.architecture, fixed, graph).eval()
    deployed = with_precise_norm(synthesiser) if config.instance_norm == "precise" else synthesiser

    # What it is proven on.
    maps = maps_of_proof(card, dataset, graph, config)
    samples = [feeds(card.architecture, graph, one.inputs, one.instances, style) for one in maps]

    # Export into a folder of work, proof, and only then the files. What an earlier run left goes
    # first.
    with folder_of_work(exported) as work:
        settings = dict(
            opset=config.opset,
            precision=config.precision,
            dynamic_batch=config.batch_size == 0,
            dynamic_size=config.size == DYNAMIC,
            external_data_above_mb=config.external_data_above_mb,
        )
        example = {
            name: np.repeat(array, max(config.batch_size, 1), axis=0)
            for name, array in samples[0].items()
        }
        graph_proto = to_onnx(deployed, example, work / FILE, **settings)
        parity = prove(onnx_runners(work / FILE, config.precision), synthesiser, samples, config)
        if config.dropout:
            graph_proto = to_onnx(with_dropout(deployed), example, work / FILE, **settings)
            check_drops(graph_proto, deployed)
        for file in (data_file(work / FILE), work / FILE):
            if file.exists():
                shutil.move(file, exported / file.name)

    exported_card = ExportCard(
        file=FILE,
        graph=graph,
        opset=config.opset,
        precision=config.precision,
        batch_norm=config.batch_norm,
        dropout=config.dropout,
        **specs(graph_proto, graph, card.architecture.num_labels),
        style=[] if style is None else style.by_label.tolist(),
        parity=parity,
        architecture=card.architecture,
        model_digest=card.digest,
        versions={
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )
    exported_card.write(exported)
    onnx_mb = sum(file.stat().st_size for file in exported.glob(f"{FILE}*")) / 2**20
    input_bytes = sum(array.nbytes for array in samples[0].values())
    print(
        f"export: {exported / FILE}: opset {config.opset}, {onnx_mb:.1f} MB; {input_bytes:,} "
        "bytes in per picture"
    )

    # For an NPU.
    if config.format == "om":
        om = compile_files(exported, exported_card, config)
        try:
            parity += prove(om_runners(exported, om, graph), synthesiser, samples, config)
        except BaseException:
            for file in om:
                (exported / file.file).unlink()
            raise
        exported_card.model_copy(update={"om": om, "parity": parity}).write(exported)

    worst = max(parity, key=lambda one: one.max_abs_error)
    figures = {
        "parity/max_abs_error": worst.max_abs_error,
        "parity/mean_abs_error": worst.mean_abs_error,
        "parity/cosine": min(one.cosine for one in parity),
        "parity/psnr_db": min(one.psnr_db for one in parity),
        "onnx_mb": onnx_mb,
        "input_mb": input_bytes / 1e6,
    }
    tracking.log_figures(figures)
    tracking.log_files(exported)
    return figures


def load(model: Path, dataset: Path | None, config: ExportConfig) -> tuple[ModelCard, nn.Module]:
    """The generator, with what its weight file does not tell taken from the options and the data
    set."""
    num_labels = DatasetManifest.read(dataset).num_labels if dataset else None
    card, generator = load_generator(
        model, config.fixed_size, num_labels=num_labels, unet_dropout=config.dropout
    )
    if config.dropout and not any(isinstance(module, nn.Dropout) for module in generator.modules()):
        raise InputError(f"--dropout was given but --model {model} has no dropout: leave it out.")
    return card, with_picture_statistics(generator) if config.batch_norm == "picture" else generator


def load_style(model: Path, card: ModelCard, clusters: Path | None) -> Style | None:
    """The commonest style of every label; None where the model takes no instance features."""
    feat_num = card.architecture.feat_num
    if clusters is not None:
        return Style.commonest(
            ClusterTable.read_for(clusters, model, card), card.architecture.num_labels
        )
    if feat_num:
        raise InputError(
            f"--model {model} takes {feat_num} instance features but --clusters was not given: "
            f"give the folder that `python -m components.cluster` wrote."
        )
    return None


@contextmanager
def folder_of_work(exported: Path) -> Iterator[Path]:
    """A folder inside `exported`, which has lost what earlier runs left: that must not look like
    the result of this."""
    exported.mkdir(parents=True, exist_ok=True)
    for path in [exported / ExportCard.FILE, *exported.glob(f"{FILE}*"), *exported.glob("*.om")]:
        path.unlink(missing_ok=True)
    for stale in exported.glob(".work-*"):
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix=".work-", dir=exported) as work:
        yield Path(work)


def compile_files(exported: Path, card: ExportCard, config: ExportConfig) -> list[OmFile]:
    find_atc()  # it is said first if there is none
    return compile_om(
        exported / FILE,
        exported,
        card.inputs,
        config.om_batch_sizes,
        config.om_gears,
        soc_version(config.soc_version),
        config.om_precision_mode or None,
        Path(config.om_aipp) if config.om_aipp else None,
    )
