"""`python -m components.export`: the step."""

import sys
from pathlib import Path

from components.export.config import ExportConfig
from shared.command import command_line, run_tracked


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


def main(argv: list[str] | None = None) -> None:
    command_line("python -m components.export", export, {}, argv)


if __name__ == "__main__":
    match sys.argv[1:2]:
        case ["synthesise"]:
            from components.export.synthesise import command as synthesise

            synthesise.main(sys.argv[2:])
        case ["offline"]:
            from components.export.offline import command as offline

            offline.main(sys.argv[2:])
        case _:
            main()
