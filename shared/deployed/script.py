"""The few lines that run an exported file without this project: by onnxruntime, numpy and pillow
alone."""

from pathlib import Path

import jinja2
import numpy as np

from shared.contracts.exported import ExportCard
from shared.contracts.labels import IGNORED
from shared.data.colours import UNKNOWN
from shared.data.raw_maps import IdTable, read_table
from shared.deployed.synthesiser import input_names

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels of an input picture


def python_script(card: ExportCard) -> str:
    """A program that paints one picture from the files of a scene, for the very file of `card`.

    Its picture is that of `python -m components.export synthesise --exported`."""
    reads, graph = card.architecture, card.graph
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    # What training renumbered in the raw maps.
    others, renumbered = renumbering(card)

    # Styles are an input, or the host paints them.
    is_painted = graph.form == "onehot" and reads.feat_num > 0
    reads_style = is_painted or graph.style in ("label", "instance", "map")

    # Where instances come from, and whether they are the rows of a table or need few bits.
    instances = instances_of(card)
    is_narrow = graph.form == "maps" and graph.ids == "int16"
    numbered = bool(instances) and (graph.style == "instance" or is_narrow)

    batch_size = card.inputs[0].shape[0]
    return environment.get_template("paint.py.j2").render(
        usage=usage(card),
        arguments=", ".join(f"{name}_file" for name in scene_files(card)),
        reads=reads,
        graph=graph,
        size=card.size,
        mode=MODES.get(reads.input_nc),
        instances=instances,
        numbered=numbered,
        reads_style=reads_style,
        reads_facts=reads_style or (reads.num_labels > 0 and card.raw.coloured),
        raw=card.raw,
        others=others,
        renumbered=renumbered,
        inputs=[(spec.name, spec.dtype) for spec in card.inputs],
        batch_size=batch_size if isinstance(batch_size, int) else 1,
    )


def renumbering(card: ExportCard) -> tuple[int | None, dict[int, int]]:
    """What becomes of ids of raw label maps that have no label of their own (None: they have none),
    and the ids that become another one than they would by that."""
    num_labels, raw = card.architecture.num_labels, card.raw
    if not num_labels or raw.coloured or not (raw.remap or raw.ignore_labels):
        return None, {}
    _, others = read_table(raw.remap)
    new = IdTable.of(num_labels, raw.remap, raw.ignore_labels).new.copy()
    if new[IGNORED] == UNKNOWN:  # a map may always say that a pixel has none
        new[IGNORED] = IGNORED
    plain = np.full_like(new, UNKNOWN if others is None else others)
    if others is None:
        plain[:num_labels] = np.arange(num_labels)
    changed = np.flatnonzero(new != plain)
    return others, dict(zip(changed.tolist(), new[changed].tolist(), strict=True))


def usage(card: ExportCard) -> str:
    """The command line of the script."""
    names = " ".join(scene_files(card).values())
    return f"python {ExportCard.SCRIPT} {card.file} {names} picture.png"


def scene_files(card: ExportCard) -> dict[str, str]:
    """What the files of a scene are, with names for examples."""
    reads = card.architecture
    suffix = "png" if reads.num_labels or reads.input_nc in MODES else "npy"
    files = {reads.input_name: f"{reads.input_name}.{suffix}"}
    if instances_of(card) == "files":
        files["instances"] = "instances.png"
    return files


def instances_of(card: ExportCard) -> str:
    """Where the instances of a scene come from, as in RawReading; "" where the file needs none."""
    names = input_names(card.architecture, card.graph)
    if not (card.architecture.use_instances or "instances" in names):
        return ""
    return card.raw.instances
