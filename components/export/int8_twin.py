"""The int8 twin of an exported file: calibrated on training pairs, judged on test pairs, kept where
it keeps the picture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from components.export.config import ExportConfig
from components.export.onnx_graph.int8 import quantise
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Int8Twin
from shared.data.maps import Sample
from shared.data.reader import PairReader
from shared.deployed.form import Feeds, Form, stack
from shared.deployed.painter import ExportedFile, open_runner
from shared.deployed.styles import Style
from shared.deployed.synthesiser import to_pixels
from shared.errors import WorkFailed
from shared.quality import metrics_of, psnr_db
from shared.scorers.meter import PictureMeter
from shared.scorers.networks import MeasuringNetworks

LEAST_FIGURE = 0.01  # of which a share is taken: the SSIM of an untrained model is nearly 0


def int8_twin(
    work: Path, form: Form, dataset: Path, table: ClusterTable | None, config: ExportConfig
) -> Int8Twin:
    """Make the twin of the file in `work`, and leave it there where it is good enough. Where it is
    not, raises WorkFailed with --int8 on; with auto a line says so."""
    file, twin = work / ExportCard.ONNX, work / ExportCard.INT8
    manifest = DatasetManifest.read(dataset)
    styles = styles_of(form, table)

    # Made, on training pairs.
    count = min(config.int8_calibration_pairs, len(manifest.train))
    print(
        f"export: int8: calibrates on {count} of {len(manifest.train)} training pairs", flush=True
    )
    of_training = spread(dataset, manifest, "train", count, form)
    feeds = (form.feed(sample, next(styles)) for sample in of_training)
    copies = max(config.batch_size, 1)
    quantise(file, twin, (stack([feed] * copies) for feed in feeds), config)

    # Judged, on test pairs.
    of_tests = list(spread(dataset, manifest, "test", config.int8_test_pairs, form))
    samples = [(form.feed(sample, next(styles)), sample.photo) for sample in of_tests]
    psnr, lost = judge(form, file, twin, samples)
    found = Int8Twin(
        file=ExportCard.INT8,
        calibration_pairs=count,
        test_pairs=len(of_tests),
        psnr_db=psnr,
        least_psnr_db=config.int8_least_psnr_db,
        lost=lost,
        max_loss=config.int8_max_loss,
    )
    sizes = [sum(one.stat().st_size for one in work.glob(f"{path.name}*")) for path in (file, twin)]
    if not found.reasons():
        in_mb = "{:.1f} MB in place of {:.1f}".format(*(size / 2**20 for size in reversed(sizes)))
        print(f"export: int8: {found.describe()}; {in_mb}", flush=True)
        return found

    # Not good enough.
    reasons = " and ".join(found.reasons())
    if config.int8 == "on":
        raise WorkFailed(
            f"int8 changes the pictures of {found.test_pairs} test pairs too much: {reasons}; "
            "--int8 auto exports without it."
        )
    print(f"export: no int8 file: it changes the pictures too much: {reasons}", flush=True)
    for path in work.glob(f"{ExportCard.INT8}*"):
        path.unlink()
    return found.model_copy(update={"file": ""})


def spread(
    dataset: Path, manifest: DatasetManifest, split: str, count: int, form: Form
) -> Iterator[Sample]:
    """Up to `count` pairs of a split, from all over it: neighbours are often alike."""
    reader = PairReader(dataset, manifest, split, photo_channels=form.reads.output_nc)
    for number in np.linspace(0, len(reader) - 1, min(count, len(reader))).round().astype(int):
        yield reader.read(int(number), form.size, with_photo=split == "test")


def styles_of(form: Form, table: ClusterTable | None) -> Iterator[Style | None]:
    """A style for each picture: where a file takes styles as input every picture has others, or
    the ranges would be those of one."""
    takes_styles = form.reads.feat_num and form.graph.style != "fixed"
    rng = np.random.default_rng(0)
    while True:
        yield drawn(table, form.reads.num_labels, rng) if takes_styles else None


def drawn(table: ClusterTable, num_labels: int, rng: np.random.Generator) -> Style:
    """For each label one of its centres."""
    by_label = table.default_style(num_labels)
    for label, of_label in table.labels.items():
        by_label[min(label, num_labels)] = of_label.centres[rng.integers(len(of_label.centres))]
    return Style(by_label)


def judge(
    form: Form, file: Path, twin: Path, samples: list[tuple[Feeds, np.ndarray | None]]
) -> tuple[float, dict[str, float]]:
    """The lowest PSNR in dB of the twin's pictures against those of the file, and the share of each
    figure of quality that they lose; {} where no pair has a photo.

    samples: Inputs of a picture, and its photo (C, H, W) uint8 or None."""
    files = ExportedFile(file, "fp32"), ExportedFile(twin, "int8")
    runners = [open_runner(form, "onnxruntime", one, "cpu") for one in files]
    meters = [PictureMeter(MeasuringNetworks()) for _ in runners]
    psnrs = []
    for feed, photo in samples:
        pictures = [to_pixels(runner(feed)[0]) for runner in runners]
        psnrs.append(psnr_db(*pictures))
        if photo is not None:
            for meter, picture in zip(meters, pictures, strict=True):
                meter.add(picture, photo)
    of_fp32, of_int8 = (meter.figures() for meter in meters)
    lost = {}
    for metric in metrics_of("") if of_fp32 else []:
        before, after = of_fp32[metric.name], of_int8[metric.name]
        change = before - after if metric.better == "higher" else after - before
        lost[metric.name] = change / max(abs(before), LEAST_FIGURE)
    return min(psnrs), lost
