"""The prepare step's story."""

from pathlib import Path

from components.prepare.cityscapes import check_headers, find_pairs
from components.prepare.config import PrepareConfig
from components.prepare.flat_layout import describe, image_files, read_if_same, write_pairs
from components.prepare.folders import written_whole
from shared import tracking
from shared.contracts import DatasetManifest, digest_files, parse_size


def run(raw_data: Path, dataset: Path, config: PrepareConfig) -> dict[str, float]:
    """Check images in Cityscapes' raw layout and write them as a data set of one size: train -> train, val -> test.

    The data set appears whole or not at all. The same command again finds it and does nothing.

    Args:
        raw_data: Folder that holds leftImg8bit/ and gtFine/.
        dataset: Folder to write.
    """
    raw_data, dataset = raw_data.resolve(), dataset.resolve()
    height, width = parse_size(config.size)

    # What there is: pairs by name. Nothing is opened yet.
    pairs = find_pairs(raw_data, config.use_instances, config.max_images)
    manifest = describe(pairs, raw_data, height, width, config.num_labels, config.use_instances)

    # The same command again means continue.
    if found := read_if_same(dataset, manifest, pairs):
        print(f"prepare: already prepared: {dataset}", flush=True)
        return report(found, dataset)

    # What headers can tell is refused before a file is written; what pixels tell, before anything is left behind.
    check_headers(pairs["train"] + pairs["test"])
    with written_whole(dataset, "--dataset") as folder:
        images_per_second = write_pairs(pairs, folder, manifest)
        manifest = manifest.model_copy(update={"digest": digest_files(image_files(manifest, folder))})
        manifest.write(folder)

    print(f"prepare: wrote {dataset} at {height}x{width}, digest {manifest.digest}", flush=True)
    return report(manifest, dataset, images_per_second=images_per_second)


def report(manifest: DatasetManifest, dataset: Path, **speed: float) -> dict[str, float]:
    """The step's figures, which also go to its MLflow run."""
    figures = {
        "train_pairs": len(manifest.train),
        "test_pairs": len(manifest.test),
        "test_photos": sum(pair.has_photo for pair in manifest.test),
        **speed,
    }
    tracking.log_dataset(dataset, manifest.digest, "training")
    tracking.log_figures(figures)
    return figures
