"""`python -m components.export synthesise`: label maps (with instance maps), or pictures, in;
photographs out."""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tyro

from components.export.out import refused_if_unwritable
from components.export.synthesise.flags import Flags, PainterFlags, StyleFlags
from components.export.synthesise.scenes import SceneFiles, find_scenes
from components.export.synthesise.style_choice import (
    CentreStyles,
    Styles,
    styles_for_file,
    styles_for_model,
)
from shared.contracts.exported import ExportCard, Graph
from shared.data.images import write_picture
from shared.deployed.form import Form
from shared.deployed.painter import ExportedFile, Painter, open_runner
from shared.deployed.runners import PROVIDERS
from shared.device import pick
from shared.errors import InputError
from shared.networks.checkpoint import load_generator

LINE_SECONDS = 5


def synthesise(flags: Flags) -> None:
    """The whole command. Raises InputError before the first picture."""
    # What paints, and with which styles.
    for part in (flags.what_paints, flags.from_what, flags.styles):
        part.check()
    open_painter = open_model if flags.what_paints.model else open_exported
    painter, styles = open_painter(flags.what_paints, flags.styles)
    form, runner = painter.form, painter.runner

    # From what. Every file is read once before the first picture: the last one may be a wrong one.
    scenes = find(flags, painter, styles)
    check_out(flags, scenes)
    check_contents(scenes, painter, styles)
    print(
        f"synthesise: {len(scenes)} inputs, {runner.name} on {runner.device} in {runner.precision}",
        flush=True,
    )
    if form.size:
        height, width = form.size
        print(
            f"synthesise: the file takes {height}x{width}: other maps are resized to it, pictures "
            "back",
            flush=True,
        )

    # Pictures.
    with refused_if_unwritable(flags.out):
        for files in progress(scenes):
            scene = files.read(form.reads)
            pictures = []
            for variant in range(flags.styles.variants):
                style = styles.of(scene, variant) if styles else None
                pictures.append(painter.paint(scene.inputs, scene.instances, style))
            if len(pictures) > 1:
                pictures.append(grid(pictures))
            for path, picture in zip(outputs(flags, files), pictures, strict=True):
                write_picture(path, picture)
    print(
        f"synthesise: wrote {len(scenes) * len(outputs(flags, scenes[0]))} pictures to {flags.out}"
    )


def open_model(flags: PainterFlags, style_flags: StyleFlags) -> tuple[Painter, Styles | None]:
    """The generator of a model folder, in PyTorch; styles are None for one without instance
    features."""
    runtime = pick(flags.device, flags.precision)
    card, generator = load_generator(flags.model)
    styles = styles_for_model(style_flags, flags.model, card, runtime)
    graph = Graph(style=styles.graph_style if styles else "none")
    form = Form(card.architecture, graph, batch_norm=flags.batch_norm)
    return Painter(
        form, open_runner(form, "torch", generator, flags.device, flags.precision)
    ), styles


def open_exported(flags: PainterFlags, style_flags: StyleFlags) -> tuple[Painter, Styles | None]:
    """An exported file in its runtime; styles are None for one that takes none as input."""
    exported, card = flags.exported, ExportCard.read(flags.exported)
    form = Form.of_export(card)
    styles = styles_for_file(style_flags, exported, card, form)
    runtime = "onnxruntime" if flags.runtime == "onnx" else flags.runtime
    file = ExportedFile.of(exported, card, runtime)
    runner = open_runner(form, runtime, file, flags.device)
    if runtime == "onnxruntime" and flags.device not in ("auto", runner.device):
        raise InputError(
            f"--device {flags.device}: ONNX Runtime has no {PROVIDERS[flags.device]} here: "
            "install its build for that device, or use --device cpu."
        )
    return Painter(form, runner), styles


def find(flags: Flags, painter: Painter, styles: Styles | None) -> list[SceneFiles]:
    """The scenes that the flags name, with instance maps where the model or the styles need
    them."""
    named, form = flags.what_paints.named, painter.form
    style_flag = styles.instances_for if styles else None
    painter_takes_them = form.reads.use_instances or (
        form.graph.style == "instance" and not style_flag
    )
    return find_scenes(
        flags.from_what,
        flags.styles.photo,
        form.reads,
        named,
        instances_for=named if painter_takes_them else style_flag,
    )


def check_out(flags: Flags, scenes: list[SceneFiles]) -> None:
    """Refuses a place where pictures would lie among the inputs, to be taken for some next time, or
    replace them."""
    out = flags.out.resolve()
    places = vars(flags.from_what) | {"photo": flags.styles.photo}
    for flag in ("labels", "image", "instances", "dataset", "photo"):
        if (place := places[flag]) and place.is_dir() and out.is_relative_to(place.resolve()):
            raise InputError(
                f"--out {flags.out} is inside of --{flag} {place}: give another folder."
            )
    read = {
        path.resolve()
        for files in scenes
        for path in (files.input, files.instances, files.photo)
        if path
    }
    for path in (path for files in scenes for path in outputs(flags, files)):
        if path.resolve() in read:
            raise InputError(
                f"--out {flags.out} would replace the input {path}: give another folder."
            )


def check_contents(scenes: list[SceneFiles], painter: Painter, styles: Styles | None) -> None:
    """Reads every file, and finds every instance that a style was chosen for."""
    chosen = styles if isinstance(styles, CentreStyles) and styles.of_instance else None
    missing = set(chosen.of_instance) if chosen else set()
    for files in scenes:
        scene = files.read(painter.form.reads, painter.form.least_side)
        missing -= chosen.chosen_instances(scene) if chosen else set()
    if missing:
        raise InputError(
            f"--instance-style {min(missing)}: no instance map has this id: choose among theirs."
        )


def outputs(flags: Flags, files: SceneFiles) -> list[Path]:
    """Where the pictures of one scene go."""
    variants = flags.styles.variants
    ends = [""] if variants == 1 else [*(f"_{variant}" for variant in range(variants)), "_grid"]
    return [flags.out / f"{files.name}{end}.{flags.suffix}" for end in ends]


def grid(pictures: list[np.ndarray]) -> np.ndarray:
    """(3, H, W) uint8 pictures of one size, row by row in about a square of them; places left over
    are white."""
    height, width = pictures[0].shape[1:]
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    canvas = np.full((3, rows * height, columns * width), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height, i % columns * width
        canvas[:, top : top + height, left : left + width] = picture
    return canvas


def progress(scenes: list[SceneFiles]) -> Iterator[SceneFiles]:
    """Passes them on, and says now and then how far it is."""
    start = printed = time.monotonic()
    for done, files in enumerate(scenes, start=1):
        yield files
        now = time.monotonic()
        if done == len(scenes) or now - printed > LINE_SECONDS:
            rate = done / max(now - start, 1e-9)
            print(f"synthesise: {done} of {len(scenes)} inputs, {rate:.1f} inputs/s", flush=True)
            printed = now


def main(argv: list[str] | None = None) -> None:
    """Exit 0 done, 2 refused."""
    flags = tyro.cli(
        tyro.conf.OmitArgPrefixes[Flags], prog="python -m components.export synthesise", args=argv
    )
    try:
        synthesise(flags)
    except InputError as refusal:
        print(f"synthesise refused: {refusal}", file=sys.stderr)
        sys.exit(2)
