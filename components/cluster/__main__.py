"""`python -m components.cluster`: the step, and the files of pix2pixHD's own code, in and out."""

from pathlib import Path
from typing import Literal

from components.cluster.config import ClusterConfig
from shared.command import command_line, run_tracked
from shared.contracts.model import LATEST
from shared.files.owned import only_writer
from shared.networks.chosen import Weights


def cluster(dataset: Path, model: Path, clusters: Path, *, config: ClusterConfig) -> None:
    """Cluster the instance features of the training set, per label.

    Args:
        dataset: Folder of the prepare step.
        model: Folder of a train step with --instance-features.
        clusters: Folder to write.

    Example:
        python -m components.cluster --dataset runs/dataset --model runs/model \\
            --clusters runs/clusters
    """
    from components.cluster.run import run

    run_tracked(run, config, dataset=dataset, model=model, clusters=clusters)


def read(
    dataset: Path,
    model: Path,
    clusters: Path,
    features: Path | None = None,
    centres: Path | None = None,
    weights: Weights = LATEST,
) -> None:
    """Make a clusters folder of features.npy, features_clustered_010.npy, or both.

    Args:
        dataset: Folder of the prepare step.
        model: Folder of the train step, with features.
        clusters: New folder to write.
        features: features.npy: rows of features and area by label.
        centres: features_clustered_010.npy: centres by label.
        weights: Of --model, whose encoder made them.

    Example:
        python -m components.cluster exchange read --centres features_clustered_010.npy \\
            --dataset runs/dataset --model runs/model --clusters runs/read
    """
    from components.cluster.exchange.convert import read_reference_files

    with only_writer(clusters, "--clusters", ClusterConfig.WRITES):
        read_reference_files(model, dataset, clusters, features, centres, weights)


def maps(
    dataset: Path,
    clusters: Path,
    out: Path | None = None,
    size: str | None = None,
    form: Literal["npy", "png"] = "npy",
) -> None:
    """Paint the features of a clusters folder over the instances, one file per training image.

    Args:
        dataset: Folder of the prepare step.
        clusters: Folder of the cluster step.
        out: Folder that gets train_feat/; None: maps/ in --clusters.
        size: HEIGHTxWIDTH of the maps; None: of the data set.
        form: float16 arrays, or 8-bit pictures.

    Example:
        python -m components.cluster exchange maps --clusters runs/clusters \\
            --dataset runs/dataset --form png --out runs/maps
    """
    from components.cluster.exchange.convert import write_maps

    with only_writer(out or clusters, "--out" if out else "--clusters", ["train_feat/map.npy"]):
        write_maps(clusters, dataset, out, size, form)


def read_maps(
    maps: Path, dataset: Path, model: Path, clusters: Path, weights: Weights = LATEST
) -> None:
    """Make a clusters folder of 8-bit feature maps (train_feat).

    Args:
        maps: Folder of <image>.png.
        dataset: Folder of the prepare step.
        model: Folder of the train step, with features.
        clusters: New folder to write.
        weights: Of --model, whose encoder made them.

    Example:
        python -m components.cluster exchange read-maps --maps runs/maps/train_feat \\
            --dataset runs/dataset --model runs/model --clusters runs/read
    """
    from components.cluster.exchange.convert import read_maps as read_folder

    with only_writer(clusters, "--clusters", ClusterConfig.WRITES):
        read_folder(maps, model, dataset, clusters, weights)


def main(argv: list[str] | None = None) -> None:
    exchange = {"exchange read": read, "exchange maps": maps, "exchange read-maps": read_maps}
    command_line("python -m components.cluster", cluster, exchange, argv)


if __name__ == "__main__":
    main()
