"""Exported file, data set, model -> how fast, how equal, how good: a table, benchmark.json, a page with pictures."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime
import torch

from components.benchmark.config import BenchmarkConfig
from components.benchmark.pictures import synthesise, write_pictures
from components.benchmark.quality import mean_quality
from components.benchmark.report import PAGE, TABLE, text_table, write_page
from components.benchmark.runners import OnnxRunner, TorchRunner, maps_of
from components.benchmark.speed import measure_speed
from shared import tracking
from shared.checkpoint import load_generator
from shared.contracts import BenchmarkReport, DatasetManifest, ExportCard, ModelCard, write_atomically
from shared.device import Runtime, pick
from shared.errors import InputError
from shared.layers import with_picture_statistics
from shared.networks import Synthesiser
from shared.pictures import side_by_side
from shared.samples import PairReader


def run(exported: Path, dataset: Path, model: Path, report: Path, *, config: BenchmarkConfig) -> dict[str, float]:
    """Measure an exported generator against PyTorch: speed, parity, quality, pictures.

    Args:
        exported: Folder of the export step.
        dataset: Folder of the prepare step.
        model: Folder of the train step that was exported.
        report: Folder to write.
    """
    # Three folders that must belong together.
    runtime = pick(config.device, config.precision)
    export = ExportCard.read(exported)
    manifest = DatasetManifest.read(dataset)
    card, generator = load_generator(model)
    refuse_strangers(exported, export, dataset, manifest, model, card)

    # The same function in two runtimes.
    if export.batch_norm == "picture":
        generator = with_picture_statistics(generator)
    style = torch.tensor(export.style) if export.style else None
    eager = TorchRunner(Synthesiser(generator, card.architecture, style), runtime)
    onnx = OnnxRunner(exported / export.file, export.precision, prefer_cuda=runtime.name == "cuda")

    # Speed, on real label maps.
    samples = []
    for split in ("test", "train"):
        reader = PairReader(dataset, manifest, split)
        wanted = min(len(reader), max(config.batch_sizes) - len(samples))
        samples += [maps_of(reader.read(i, (card.height, card.width)), card) for i in range(wanted)]
    speed = measure_speed([eager, onnx], samples, config.batch_sizes, config.rounds, config.warmup)

    # Quality, of the exported file unless it would run on a slower device than PyTorch.
    painter = onnx if onnx.device == eager.device else eager
    shown, quality = [], {}
    for split in ("train", "test"):
        figures = []
        for number, row in enumerate(synthesise(painter, dataset, manifest, card, split, config.max_pictures)):
            if number < config.max_pictures:
                shown.append(row)
            if row.real is not None:
                figures.append((row.psnr_db, row.ssim))
        quality[split] = mean_quality(figures)

    # Report.
    result = BenchmarkReport(
        speed=speed,
        parity=export.parity,
        quality=quality["test"],
        train_quality=quality["train"],
        height=card.height,
        width=card.width,
        model_digest=card.digest,
        dataset_digest=manifest.digest,
        environment=environment(runtime),
        method=method(config, painter.name),
    )
    result.write(report)
    for row in shown:
        write_pictures(report / "pictures", row)
        tracking.log_picture(f"{row.split}_{row.name}", side_by_side(list(row.pictures().values())), step=0)
    write_atomically(report / TABLE, (text_table(result) + "\n").encode())
    write_page(report, result, shown)
    tracking.log_headline(result.headline())
    tracking.log_files(report / PAGE)
    tracking.log_files(report / BenchmarkReport.FILE)
    print(f"\n{text_table(result)}\n\nreport: {report / PAGE}\n{json.dumps(result.headline())}")
    return result.headline()


def refuse_strangers(
    exported: Path, export: ExportCard, dataset: Path, manifest: DatasetManifest, model: Path, card: ModelCard
) -> None:
    if export.model_digest != card.digest:
        raise InputError(
            f"--exported {exported} was made from model {export.model_digest} but --model {model} is {card.digest}: "
            f"give the model it was exported from, or export again."
        )
    if not (exported / export.file).is_file():
        raise InputError(
            f"--exported {exported} has no {export.file}: export again with `python -m components.export`."
        )
    card.refuse_other_data(dataset, manifest)


def environment(runtime: Runtime) -> dict[str, str]:
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": runtime.describe(),
        "cpu threads": f"{torch.get_num_threads()} per runtime",
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def method(config: BenchmarkConfig, painter: str) -> str:
    return (
        f"Speed: {config.rounds} timed calls per runtime and batch size after {config.warmup} warm-up calls, the "
        "runtimes in turn on the same batches of real label maps, 10 ms of rest before each. A call goes from integer "
        "maps in host memory to a float32 picture in host memory: copies to and from the device count, reading files "
        "and rounding to uint8 do not. Latency is per batch, images/s all pictures over all timed calls. Peak memory "
        "is the most held so far, of the process (on a CPU, both runtimes together) or of PyTorch on its device: it "
        "grows down the table. "
        f"Quality: pictures of {painter}, batch 1, rounded to uint8; PSNR from the mean squared error over pixels and "
        "channels (100 dB = identical), SSIM with 7x7 windows; means over pairs that have a photo: all test pairs, and "
        "the training pairs shown. Parity was measured by the export step."
    )
