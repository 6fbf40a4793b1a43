"""`python -m components.export synthesise`: label maps (with instance maps), or pictures, in;
photographs out."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from components.export.checks import check_files, read_inputs
from components.export.synthesise.config import SynthesiseConfig
from components.export.synthesise.map_reading import MapReading, reading_for
from components.export.synthesise.scenes import SceneFiles, find_scenes
from components.export.synthesise.style_choice import (
    CentreStyles,
    Styles,
    styles_for_file,
    styles_for_model,
)
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.model import ModelCard
from shared.data.images import write_picture
from shared.deployed.form import Form
from shared.deployed.painter import ExportedFile, Painter, open_runner
from shared.deployed.runners import PROVIDERS
from shared.device import pick
from shared.errors import InputError
from shared.files.owned import refuse_unwritable, refused_if_unwritable
from shared.files.writing import sync_all
from shared.terminal.progress import progress


def synthesise(config: SynthesiseConfig) -> None:
    """Read all maps, paint them, write the pictures. Raises InputError before the first picture."""
    # What paints, and with which styles.
    painter, styles, card = open_model(config) if config.model else open_exported(config)
    form, runner = painter.form, painter.runner

    # From what. Every file is read once before the first picture: the last one may be a wrong one.
    check_files(config.dataset, config)
    scenes = find(config, painter, styles, card)
    check_out(config, scenes)
    maps = "prepared" if config.dataset else config.maps
    reading = reading_for(maps, form.reads, card, [files.input for files in scenes])
    check_contents(scenes, reading, painter, styles)
    print(
        f"synthesise: {len(scenes)} inputs, {runner.name} on {runner.device} in {runner.precision}",
        flush=True,
    )
    if form.size:
        height, width = form.size
        print(
            f"synthesise: at {height}x{width}: other maps are resized to it, pictures back",
            flush=True,
        )

    # Pictures.
    with refused_if_unwritable(config.out, "--out"):
        for files in progress(scenes, "synthesise:", len(scenes), "inputs"):
            scene = files.read(reading)
            pictures = []
            for variant in range(config.variants):
                style = styles.of(scene, variant) if styles else None
                pictures.append(painter.paint(scene, style))
            if len(pictures) > 1:
                pictures.append(grid(pictures))
            for path, picture in zip(outputs(config, files), pictures, strict=True):
                write_picture(path, picture)
        sync_all(config.out)
    total = len(scenes) * len(outputs(config, scenes[0]))
    print(f"synthesise: wrote {total} pictures to {config.out}")


Opened = tuple[Painter, Styles | None, ModelCard | ExportCard]


def open_model(config: SynthesiseConfig) -> Opened:
    """The generator of a model folder, in PyTorch; styles are None for one without instance
    features."""
    runtime = pick(config.device, config.precision)
    card, generator = read_inputs(config.model, config.dataset, config.weights)
    styles = styles_for_model(config, config.model, card, runtime)
    graph = Graph(style=styles.graph_style if styles else "none")
    size = config.fixed_size
    if not config.size and card.architecture.is_pix2pix:
        size = card.frame_size
    form = Form(card.architecture, graph, size=size, batch_norm=config.batch_norm)
    runner = open_runner(form, "torch", generator, config.device, config.precision)
    return Painter(form, runner), styles, card


def open_exported(config: SynthesiseConfig) -> Opened:
    """An exported file in its runtime; styles are None for one that takes none as input."""
    # What it takes.
    exported, card = config.exported, ExportCard.read(config.exported)
    form = Form.of_export(card)
    if form.size and config.size:
        raise InputError(
            f"--size {config.size}: --exported {exported} takes {form.size[0]}x{form.size[1]} "
            "alone: leave it out, or export with --size dynamic."
        )
    form = replace(form, size=form.size or config.fixed_size)
    styles = styles_for_file(config, exported, card, form)

    # The file in its runtime, where that was asked to run.
    runtime = "onnxruntime" if config.runtime == "onnx" else config.runtime
    if config.int8:
        file, device = ExportedFile.in_int8(exported, card), "cpu"
    else:
        file, device = ExportedFile.of(exported, card, runtime), config.device
    with card.promise(exported).kept(card.parts_of(file.path.name)):
        runner = open_runner(form, runtime, file, device, config.precision)
    if runtime == "openvino" and config.device not in ("auto", "cpu"):
        raise InputError(
            f"--device {config.device}: OpenVINO is for CPUs here: leave it out, or use --runtime "
            "onnx."
        )
    if runtime == "onnxruntime" and config.device not in ("auto", runner.device):
        if config.device == "npu":
            raise InputError(
                "--device npu: an NPU runs compiled files, not ONNX: add --runtime om (of a file "
                "exported with --format om), or use --device cpu."
            )
        raise InputError(
            f"--device {config.device}: ONNX Runtime has no {PROVIDERS[config.device]} here: "
            "install its build for that device, or use --device cpu."
        )
    return Painter(form, runner), styles, card


def find(
    config: SynthesiseConfig,
    painter: Painter,
    styles: Styles | None,
    card: ModelCard | ExportCard,
) -> list[SceneFiles]:
    """The scenes that the flags name, with instance maps where the model or the styles need
    them."""
    named, form = config.named, painter.form
    style_flag = styles.instances_for if styles else None
    painter_takes_them = form.reads.use_instances or (
        form.graph.style == "instance" and not style_flag
    )
    return find_scenes(
        config,
        config.photo,
        form.reads,
        named,
        instances_for=named if painter_takes_them else style_flag,
        regions_are_instances=card.raw.instances == "components",
    )


def check_out(config: SynthesiseConfig, scenes: list[SceneFiles]) -> None:
    """Refuses a place where pictures would lie among the inputs, to be taken for some next time, or
    replace them."""
    out = config.out.resolve()
    places = vars(config) | {"instances": config.instance_place}
    for flag in ("labels", "image", "instances", "dataset", "photo"):
        if (place := places[flag]) and place.is_dir() and out.is_relative_to(place.resolve()):
            raise InputError(
                f"--out {config.out} is inside of --{flag} {place}: give another folder."
            )
    read = {
        path.resolve()
        for files in scenes
        for path in (files.input, files.instances, files.photo)
        if path
    }
    for path in (path for files in scenes for path in outputs(config, files)):
        if path.resolve() in read:
            raise InputError(
                f"--out {config.out} would replace the input {path}: give another folder."
            )
    names = [path.name for files in scenes for path in outputs(config, files)]
    refuse_unwritable(config.out, "--out", names)


def check_contents(
    scenes: list[SceneFiles], reading: MapReading, painter: Painter, styles: Styles | None
) -> None:
    """Reads every file, and finds every instance that a style was chosen for."""
    chosen = styles if isinstance(styles, CentreStyles) and styles.of_instance else None
    missing = set(chosen.of_instance) if chosen else set()
    for files in scenes:
        scene = files.read(reading, painter.form.least_side)
        missing -= chosen.chosen_instances(scene) if chosen else set()
    if missing:
        raise InputError(
            f"--instance-style {min(missing)}: no instance map has this id: choose among theirs."
        )


def outputs(config: SynthesiseConfig, files: SceneFiles) -> list[Path]:
    """Where the pictures of one scene go."""
    variants = config.variants
    ends = [""] if variants == 1 else [*(f"_{variant}" for variant in range(variants)), "_grid"]
    return [config.out / f"{files.name}{end}.{config.suffix}" for end in ends]


def grid(pictures: list[np.ndarray]) -> np.ndarray:
    """(C, H, W) uint8 pictures of one size, row by row in about a square of them; places left over
    are white."""
    channels, height, width = pictures[0].shape
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    canvas = np.full((channels, rows * height, columns * width), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height, i % columns * width
        canvas[:, top : top + height, left : left + width] = picture
    return canvas
