"""The few lines that run an exported file without this project: by onnxruntime, numpy and pillow
alone."""

from pathlib import Path

import jinja2

from shared.contracts.exported import ExportCard
from shared.deployed.synthesiser import input_names

SCRIPT = "paint.py"  # beside the exported file
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
        inputs=[(spec.name, spec.dtype) for spec in card.inputs],
        batch_size=batch_size if isinstance(batch_size, int) else 1,
    )


def usage(card: ExportCard) -> str:
    """The command line of the script."""
    names = " ".join(scene_files(card).values())
    return f"python {SCRIPT} {card.file} {names} picture.png"


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
