"""Trained generator -> a deployable file that provably equals it: ONNX, and for NPUs what atc
compiles from it."""

from pathlib import Path

import onnx
import onnxruntime
import torch
from onnx import ModelProto

from components.export.checks import (
    aipp_of,
    check_files,
    check_int8,
    read_clusters,
    read_inputs,
)
from components.export.config import ExportConfig, OnnxOptions
from components.export.int8_twin import int8_twin
from components.export.om.atc import AtcFailed, Target, check_atc, compile_om
from components.export.om.chip import soc_version
from components.export.om.integers import IdsRefused, refused_integers
from components.export.onnx_graph.dropout import check_drops, with_dropout
from components.export.onnx_graph.file import to_onnx
from components.export.onnx_graph.metadata import facts_of
from components.export.onnx_graph.norm import with_graph_norm
from components.export.onnx_graph.specs import specs
from components.export.proof import om_runners, onnx_runners, prove
from components.export.proof_maps import maps_of_proof
from shared import tracking
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, OmFile, Parity
from shared.contracts.model import ModelCard
from shared.deployed.form import Form, stack
from shared.deployed.painter import ExportedFile, open_runner
from shared.deployed.script import python_script, usage
from shared.deployed.styles import Style
from shared.errors import InputError, WorkFailed
from shared.files.digests import digests_of
from shared.files.exchanged import exchanged


def run(
    model: Path,
    exported: Path,
    dataset: Path | None = None,
    clusters: Path | None = None,
    *,
    config: ExportConfig,
) -> dict[str, float]:
    """Export a trained generator and prove on label maps that the file equals the PyTorch model."""
    try:
        return export(model, exported, dataset, clusters, config)
    except IdsRefused as refused:
        if config.om_fallback != "onehot":
            raise
        print(f"export: {refused}\nexport: --om-fallback onehot: exports in that form", flush=True)
    return export(model, exported, dataset, clusters, config.in_channels())


def export(
    model: Path,
    exported: Path,
    dataset: Path | None,
    clusters: Path | None,
    config: ExportConfig,
) -> dict[str, float]:
    """One form of it. Raises IdsRefused where atc does not take its inputs."""
    # The deployed function.
    check_int8(config, dataset, DatasetManifest.read(dataset) if dataset else None)
    card, generator = read_inputs(model, dataset, config.weights, config.fixed_size, config.dropout)
    table = read_clusters(clusters, model, card)
    form = Form(
        reads=card.architecture,
        graph=config.graph(card.architecture.feat_num),
        style=Style.commonest(table, card.architecture.num_labels) if table else None,
        size=None if config.is_dynamic else config.fixed_size or (card.height, card.width),
        batch_norm=config.batch_norm,
    )
    reference = open_runner(form, "torch", generator, "cpu", "fp32")
    deployed = with_graph_norm(form.synthesiser(generator), config)

    # What it is proven on.
    check_files(dataset, config)
    maps = maps_of_proof(form, card, dataset, config.parity_samples)
    samples = {sample.name: form.feed(sample) for sample in maps}
    first = next(iter(samples.values()))

    # Export into a folder of work, and proof. What was exported before stays until then.
    with exchanged(exported, ExportCard.FILE, config.MADE) as work:
        axes = dict(dynamic_batch=config.batch_size == 0, dynamic_size=config.is_dynamic)
        example = stack([first] * max(config.batch_size, 1))
        facts = facts_of(form, card, config)
        graph = to_onnx(deployed, example, work / ExportCard.ONNX, config, facts, **axes)

        # Random pictures cannot be compared: dropout is proven without.
        runners = onnx_runners(form, ExportedFile(work / ExportCard.ONNX, config.precision))
        parity = prove(runners, reference, samples, config.output, config)
        if config.dropout:
            dropping = with_dropout(deployed)
            graph = to_onnx(dropping, example, work / ExportCard.ONNX, config, facts, **axes)
            check_drops(graph, deployed)
        twin = int8_twin(work, form, dataset, table, config) if config.wants_int8 else None
        onnx_mb = sum(file.stat().st_size for file in work.glob(f"{ExportCard.ONNX}*")) / 2**20

        # What it is, for the steps after this one and for people.
        files = digests_of(work.glob("*.onnx*"))
        exported_card = card_of(form, card, graph, parity, config)
        exported_card = exported_card.model_copy(update={"files": files, "int8": twin})
        exported_card.write(work)
        (work / ExportCard.SCRIPT).write_text(python_script(exported_card))

        # For an NPU. Where that fails and nothing was exported before, the ONNX file stays.
        failure = None
        if config.format == "om":
            try:
                om = compile_files(work, exported, exported_card, graph, config)
                runners = om_runners(form, work, om)
                parity += prove(runners, reference, samples, config.output, config)
                files |= digests_of(work / file.file for file in om)
                update = {"files": files, "om": om, "parity": parity}
                exported_card.model_copy(update=update).write(work)
            except (InputError, WorkFailed) as error:
                other_form = isinstance(error, IdsRefused) and config.om_fallback == "onehot"
                if other_form or (exported / ExportCard.FILE).is_file():
                    raise
                failure = error
                for file in work.glob("*.om"):
                    file.unlink()

    # What is there now.
    input_bytes = sum(array.nbytes for array in first.values())
    print(
        f"export: {exported / ExportCard.ONNX}: opset {config.opset}, {onnx_mb:.1f} MB; "
        f"{input_bytes:,} bytes in per picture"
    )
    print(f"export: it runs without this project, in {exported}: {usage(exported_card)}")
    if failure:
        raise failure

    # Figures: of several runtimes the worst.
    worst = max(parity, key=lambda one: one.max_abs_error)
    figures = {
        "parity/max_abs_error": worst.max_abs_error,
        "parity/mean_abs_error": worst.mean_abs_error,
        "parity/cosine": min(one.cosine for one in parity),
        "parity/psnr_db": min(one.psnr_db for one in parity),
        "onnx_mb": onnx_mb,
        "input_mb": input_bytes / 1e6,
    }
    if twin:
        figures |= {"int8/kept": float(bool(twin.file)), "int8/psnr_to_fp32_db": twin.psnr_db}
    tracking.log_figures(figures)
    tracking.log_files(exported, "exported", on_parent=True)
    return figures


def card_of(
    form: Form, card: ModelCard, graph: ModelProto, parity: list[Parity], options: OnnxOptions
) -> ExportCard:
    """What the file is, for the steps after this one."""
    return ExportCard(
        file=ExportCard.ONNX,
        graph=form.graph,
        opset=options.opset,
        precision=options.precision,
        least_side=form.least_side,
        batch_norm=form.batch_norm,
        dropout=options.dropout,
        **specs(graph, form.graph, card.architecture),
        style=form.style.by_label.tolist() if form.style else [],
        parity=parity,
        architecture=card.architecture,
        labels=card.labels,
        raw=card.raw,
        model_digest=card.digest,
        test_digest=card.test_digest,
        versions={
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )


def compile_files(
    work: Path, exported: Path, card: ExportCard, graph: ModelProto, config: ExportConfig
) -> list[OmFile]:
    """The .om files of the ONNX file in `work`, whose graph it is, beside it; what atc says stays
    in `exported`."""
    check_atc()  # it is said first if there is none
    target = Target(
        soc_version=soc_version(config.soc_version),
        precision_mode=config.om_precision_mode or None,
        aipp=aipp_of(config),
    )
    sizes, gears = config.om_batch_sizes, config.om_gears
    try:
        return compile_om(work / ExportCard.ONNX, card.inputs, sizes, gears, target, logs=exported)
    except AtcFailed as failure:
        match refused_integers(failure.words, graph):
            case "ids":
                raise IdsRefused(f"{failure}\n{config.advice_on_ids()}", failure.words) from None
            case "picture":
                advice = "Advice: it does not take the picture of 0 .. 255; say --output float."
                raise AtcFailed(f"{failure}\n{advice}", failure.words) from None
        raise
