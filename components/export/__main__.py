"""`python -m components.export`: the step, pictures of a model, and files for ais_bench."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.export.config import ExportConfig
from components.export.synthesise.config import MapsName, SynthesiseConfig
from shared.bounds import MANY
from shared.command import command_line, run_tracked
from shared.contracts.dataset import DatasetManifest, parse_size
from shared.errors import InputError
from shared.files.owned import only_writer


def export(
    model: Path,
    exported: Path,
    dataset: Path | None = None,
    clusters: Path | None = None,
    *,
    config: ExportConfig,
) -> None:
    """Export a trained generator and prove on label maps that the file equals the PyTorch model.

    Args:
        model: Folder of the train step, or one with latest_net_G.pth of NVIDIA's pix2pixHD or of
            junyanz' pix2pix.
        exported: Folder to write.
        dataset: Folder of the prepare step, on whose maps the file is proven; without it maps are
            generated.
        clusters: Folder of the cluster step; a model with instance features needs it.

    Example:
        python -m components.export --model runs/model --dataset runs/dataset \\
            --exported runs/exported
    """
    from components.export.run import run

    folders = dict(model=model, exported=exported, dataset=dataset, clusters=clusters)
    run_tracked(run, config, **folders)


def compare_norms(
    model: Path,
    out: Path,
    dataset: Path | None = None,
    clusters: Path | None = None,
    rounds: Annotated[int, Field(ge=2, le=MANY)] = 30,
    *,
    config: ExportConfig,
) -> None:
    """Compile both forms of --instance-norm, prove and time them on the NPU, and say which to take.

    Args:
        model: As of the step.
        out: Folder to write: both exports, and norms.json.
        dataset: As of the step.
        clusters: As of the step.
        rounds: Timed executions of each file, in turn.

    Example:
        python -m components.export compare-norms --model runs/model --dataset runs/dataset \\
            --out runs/norms
    """
    from components.export import norm_choice

    with only_writer(out, "--out"):
        norm_choice.compare_norms(model, out, dataset, clusters, rounds, config)


def synthesise(config: SynthesiseConfig) -> None:
    """Synthesise photographs from label maps, with instance maps, or from pictures.

    From a file or a folder of any size, with a trained model or an exported file. Each photograph
    has the size and the name of its input.

    Example:
        python -m components.export synthesise --model runs/model --dataset runs/dataset \\
            --out runs/pictures
    """
    from components.export.synthesise.run import synthesise as paint

    with only_writer(config.out, "--out"):
        paint(config)


def inputs(
    out: Path,
    dataset: Path | None = None,
    labels: Path | None = None,
    image: Path | None = None,
    instances: Path | None = None,
    maps: MapsName = "auto",
    split: Literal["train", "test"] = "test",
    exported: Path | None = None,
    form: Literal["onehot", "maps"] | None = None,
    format: Literal["bin", "npy"] = "bin",
    size: str | None = None,
) -> None:
    """Write a prepared data set, or new maps, as the input files that ais_bench reads.

    Args:
        out: Folder to write: new, empty, or of the same command.
        dataset: Folder of the prepare step.
        labels: In place of --dataset, with --exported; new label maps, as of synthesise.
        image: In place of --dataset, with --exported; new pictures, as of synthesise.
        instances: With --labels; instance maps, or components, as of synthesise.
        maps: With --labels; raw, read as those that the model's data set was prepared from, or
            prepared.
        split: Which pairs.
        exported: Folder of the export step: the inputs of its file.
        form: In place of --exported; onehot, or None: one-hot labels and edges as float32, for the
            seed's networks; maps: label and instance ids in two folders.
        format: The numbers alone, or with a header.
        size: In place of --exported; HEIGHTxWIDTH in pixels, None: each pair's own.

    Example:
        python -m components.export offline inputs --dataset runs/dataset \\
            --exported runs/exported --out runs/inputs
    """
    from components.export.offline import inputs as files

    # What the files are made of, checked as one.
    given = dict(dataset=dataset, labels=labels, image=image, instances=instances, maps=maps)
    options = files.GivenScenes.check(given | dict(split=split))
    if dataset is None and (exported is None or form or size):
        raise InputError(
            f"--{'labels' if labels else 'image'} needs --exported, whose card tells how maps are "
            "read, and no --form or --size: give the folder of the export step alone."
        )

    with only_writer(out, "--out"):
        if dataset is None:
            scenes, wanted = files.scenes_of_files(options, exported)
        else:
            manifest = DatasetManifest.read(dataset)
            wanted = files.form_of_inputs(exported, form, size, dataset, manifest)
            scenes = files.scenes_of_dataset(dataset, manifest, split)
        in_folders = exported is not None or form == "maps"
        files.write_inputs(scenes, out, wanted, format, in_folders)


def pictures(
    outputs: Path,
    out: Path,
    dataset: Path | None = None,
    size: str | None = None,
    split: Literal["train", "test"] = "test",
    suffix: Literal["png", "jpg"] = "png",
) -> None:
    """Make pictures of the files that ais_bench wrote.

    Args:
        outputs: Folder with <name>_0.bin or <name>_0.npy.
        out: Folder to write <name>.png to.
        dataset: Folder of the prepare step, whose pairs have the sizes.
        size: In place of --dataset; HEIGHTxWIDTH of the pictures in pixels.
        split: Of --dataset.
        suffix: jpg is written with quality 95.

    Example:
        python -m components.export offline pictures --outputs runs/results/outputs \\
            --dataset runs/dataset --out runs/pictures
    """
    if (dataset is None) == (size is None):
        raise InputError("--dataset or --size is needed, and one alone: one tells the size.")

    from components.export.offline.pictures import write_pictures

    height_width = None if size is None else parse_size(size)
    with only_writer(out, "--out"):
        write_pictures(outputs, out, suffix, dataset, split, height_width)


def main(argv: list[str] | None = None) -> None:
    commands = {
        "compare-norms": compare_norms,
        "synthesise": synthesise,
        "offline inputs": inputs,
        "offline pictures": pictures,
    }
    command_line("python -m components.export", export, commands, argv)


if __name__ == "__main__":
    main()
