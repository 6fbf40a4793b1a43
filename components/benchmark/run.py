"""Exported file, data set, model -> how fast, how equal, how good: a table, benchmark.json, a page
with pictures."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from components.benchmark.ais_bench.rows import measure_om
from components.benchmark.checks import (
    check_champion,
    check_runtimes,
    check_same_model,
    runtimes_of_torch,
)
from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure.contest import open_contest
from components.benchmark.measure.method import environment, method
from components.benchmark.measure.quality import QualityMeter
from components.benchmark.measure.runtimes import (
    file_runners,
    parities,
    reference_runner,
    torch_runners,
)
from components.benchmark.measure.segmentation import SegmentationNetwork
from components.benchmark.measure.speed import measure_speed
from components.benchmark.measure.workload import Workload
from components.benchmark.page.gallery import Gallery
from components.benchmark.page.history import read_past
from components.benchmark.page.pictures import synthesise, write_pictures
from components.benchmark.page.report import page_in, write_page
from components.benchmark.page.styles import (
    StyleSheet,
    label_styles,
    picture_differences,
    render_styles,
)
from components.benchmark.page.styles_page import styles_fragment
from components.benchmark.page.subject import Subject
from components.benchmark.page.table import text_table
from shared import tracking
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.measured import BenchmarkReport
from shared.data.checking import check_dataset
from shared.data.pictures import side_by_side
from shared.data.reader import PairReader
from shared.deployed.form import Form
from shared.deployed.painter import Painter, open_runner
from shared.device import Runtime
from shared.errors import WorkFailed
from shared.files.exchanged import exchanged
from shared.files.writing import write_atomically
from shared.machine import threads
from shared.networks.checkpoint import load_generator
from shared.registry.registration import register
from shared.scorers.networks import MeasuringNetworks


def run(
    exported: Path,
    dataset: Path,
    model: Path,
    report: Path,
    clusters: Path | None = None,
    *,
    config: BenchmarkConfig,
) -> dict[str, float]:
    """Measure an exported generator against PyTorch: speed, parity, quality, pictures."""
    # Folders that must belong together.
    check_champion(config.champion)
    check_runtimes(config)
    runtimes, left_out = runtimes_of_torch(config)
    runtime = runtimes[-1]
    export = ExportCard.read(exported)
    manifest = DatasetManifest.read(dataset)
    hints = dict(num_labels=manifest.num_labels, input_nc=manifest.input_nc)
    with export.promise(exported).kept():
        card, generator = load_generator(model, export.size, weights=config.weights, **hints)
        check_same_model(exported, export, dataset, manifest, model, card)
    if config.check_dataset:
        check_dataset(dataset, manifest)
    table = ClusterTable.read_for(clusters, model, card) if clusters else None

    # Networks that measure quality: a wrong one is refused before the long work.
    size = export.size or (card.height, card.width)
    networks = MeasuringNetworks.load(size, runtime.name, config)
    segmentation = None
    if file := config.segmentation_network:
        segmentation = SegmentationNetwork(file, size, manifest.num_labels, runtime.name)
    of_tests = partial(QualityMeter, networks, segmentation)

    # The same function in several runtimes, on real maps.
    form = replace(Form.of_export(export), size=size)
    pairs = min(max(config.batch_sizes), len(manifest.test) + len(manifest.train))
    workload = Workload(dataset, manifest, form, pairs, card.architecture.output_nc)
    reference = reference_runner(form, generator, runtime.name)
    if left_out:
        print(f"benchmark: {left_out}", flush=True)
    of_torch = torch_runners(form, generator, runtimes, config)
    of_files = file_runners(form, exported, export, runtime.name, config.runtimes)
    beside = [runner for runner in of_files if runner.device == runtime.name]
    slower = [runner for runner in of_files if runner.device != runtime.name]

    # The champion, where the model is to be compared with one, and what else the machine does.
    if other_work := threads.busy_remark():
        print(f"benchmark: {other_work}", flush=True)
    deployed = next(iter((*beside, *slower)), None)
    contest = open_contest(config, export, workload, deployed, of_tests)

    # Correct first, then speed.
    parity = parities(of_torch, of_files, reference, export, workload)
    runners = [*of_torch, *of_files]
    in_process = [runner for runner in runners if runner.name != "om"]
    speed = measure_speed(in_process, workload, config.batch_sizes, config.rounds, config.warmup)
    if len(in_process) < len(runners):  # Ascend's own tool times an .om
        speed += measure_om(exported, export.om, config.batch_sizes, config.rounds, config.warmup)
    if contest:
        contest.race()

    # Quality, of the exported file; where it would run on a slower device than PyTorch, only if it
    # has to be compared with the champion's.
    eager = open_runner(form, "torch", generator, runtime.name, runtime.precision)
    order = (*beside, *slower, eager) if contest else (*beside, eager, *slower)
    painters = [Painter(form, runner) for runner in order]
    shown, meters = [], {"train": QualityMeter(), "test": of_tests()}
    of_int8 = of_tests() if any(one.precision == "int8" for one in of_files) else None

    # An earlier report stays until this one is whole.
    with exchanged(report, BenchmarkReport.FILE, config.MADE) as work:
        gallery = Gallery(work, manifest.labels)
        for split, meter in meters.items():
            is_test = split == "test"
            beside_it, whole = contest if is_test else None, config.gallery and is_test
            most = config.max_pictures
            twin = of_int8 if is_test else None
            rows = synthesise(painters, workload, split, most, meter, beside_it, whole, twin)
            for number, row in enumerate(rows):
                if number < most:
                    shown.append(row)
                if whole:
                    gallery.add(row)

        # What the styles are worth.
        sheet = paint_styles(workload, generator, table, runtime, config) if table else None
        styles = label_styles(table, picture_differences(sheet), manifest.labels) if sheet else []

        # The report.
        result = BenchmarkReport(
            speed=speed,
            parity=parity,
            quality=meters["test"].result(),
            int8_quality=of_int8.result() if of_int8 else None,
            train_quality=meters["train"].result(),
            styles=styles,
            verdict=contest.verdict(meters["test"], parity) if contest else None,
            height=size[0],
            width=size[1],
            model_digest=card.digest,
            weights=card.called(),
            dataset_digest=manifest.digest,
            environment=environment(runtime, other_work),
            method=method(config, painters[0].runner.name, len(contest.rounds) if contest else 0),
        )

        # The report as files.
        result.write(work)
        for row in shown:
            write_pictures(work, row)
            strip = side_by_side(list(row.pictures().values()))
            tracking.log_picture(f"{row.split}_{row.name}", strip, step=0)
        write_atomically(work / BenchmarkReport.TABLE, (text_table(result) + "\n").encode())
        styles_html = styles_fragment(sheet, table) if sheet else ""
        subject = Subject.of(result, export, card, manifest)
        gallery.write(subject.title)
        write_page(work, result, subject, shown, read_past(), styles_html, len(gallery.pairs))

    # The report in MLflow and on the terminal.
    page, text = page_in(report), report / BenchmarkReport.TABLE
    tracking.log_headline(result.headline(), result.verdict and result.verdict.tags())
    tracking.log_files(page, on_parent=True)
    tracking.log_files(report / BenchmarkReport.FILE)
    if all(row.problem for row in speed):
        raise WorkFailed(
            f"nothing could be timed, every row of {text} is a problem; the first: "
            f"{speed[0].problem}."
        )
    if config.registered_model and result.verdict:
        register(config.registered_model, exported, report, workload.samples[0])
    if tracking.PIPELINE not in os.environ:  # which shows the table at its end
        print(f"\n{text_table(result)}\n\nreport: {page}\n{json.dumps(result.headline())}")
    return result.headline()


def paint_styles(
    workload: Workload,
    generator: nn.Module,
    table: ClusterTable,
    runtime: Runtime,
    config: BenchmarkConfig,
) -> StyleSheet:
    """The first test maps with each style of their largest labels, by PyTorch: a file may have its
    style fixed."""
    form = replace(workload.form, graph=Graph(style="label"), style=None)
    runner = open_runner(form, "torch", generator, runtime.name, runtime.precision)
    split = "test" if workload.manifest.test else "train"
    reader = PairReader(workload.dataset, workload.manifest, split)
    count = min(config.max_styled_maps, len(reader))
    samples = [reader.read(i, form.size, with_photo=False) for i in range(count)]
    painter, labels = Painter(form, runner), workload.manifest.labels
    return render_styles(painter, table, samples, config.max_styled_labels, labels)
