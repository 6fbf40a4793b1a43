"""`python -m components.export synthesise`: label maps (with instance maps), or pictures, in;
photographs out."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from components.export.synthesise.scenes import SceneFiles, SceneFlags, find_scenes
from components.export.synthesise.style_choice import CentreStyles, StyleFlags, Styles
from shared.data.images import write_picture
from shared.deployed.offline import refused_if_unwritable
from shared.deployed.painter import Painter, PainterFlags, from_exported, from_model
from shared.errors import InputError

LINE_SECONDS = 5


@dataclass(frozen=True)
class Flags:
    """Synthesise photographs from label maps (with instance maps), or from pictures: a file, or a
    folder of any size.

    Each photograph has the size and the name of its input.
    """

    what_paints: PainterFlags
    from_what: SceneFlags
    styles: StyleFlags
    out: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    """Folder to write <name>.png to; of several variants <name>_0.png, <name>_1.png, ... and
    <name>_grid.png."""
    suffix: Literal["png", "jpg"] = "png"
    """jpg is written with quality 95."""


def synthesise(flags: Flags) -> None:
    """The whole command. Raises InputError before the first picture."""
    # What paints, and with which styles.
    for part in (flags.what_paints, flags.from_what, flags.styles):
        part.check()
    painter, styles = (from_model if flags.what_paints.model else from_exported)(
        flags.what_paints, flags.styles
    )
    runner = painter.runner

    # From what. Every file is read once before the first picture: the last one may be a wrong one.
    scenes = find(flags, painter, styles)
    check_out(flags, scenes)
    check_contents(scenes, painter, styles)
    print(
        f"synthesise: {len(scenes)} inputs, {runner.name} on {runner.device} in {runner.precision}",
        flush=True,
    )
    if painter.size:
        height, width = painter.size
        print(
            f"synthesise: the file takes {height}x{width}: other maps are resized to it, pictures "
            "back",
            flush=True,
        )

    # Pictures.
    with refused_if_unwritable(flags.out):
        for files in progress(scenes):
            scene = files.read(painter.architecture)
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


def find(flags: Flags, painter: Painter, styles: Styles | None) -> list[SceneFiles]:
    named, a = flags.what_paints.painter, painter.architecture
    style_flag = styles.instances_for if styles else None
    painter_takes_them = a.use_instances or (painter.graph.style == "instance" and not style_flag)
    return find_scenes(
        flags.from_what,
        flags.styles.photo,
        a,
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
        scene = files.read(painter.architecture, painter.least_side)
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
