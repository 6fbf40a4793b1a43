"""The prepare step's story."""

import os
import shutil
from pathlib import Path

from components.prepare.checks import read_if_same, refuse_contradictions, survey
from components.prepare.config import PrepareConfig
from components.prepare.fetch.archives import archives_in, extract
from components.prepare.fetch.remote import as_shown, fetch, is_remote
from components.prepare.layouts.listing import subfolders
from components.prepare.layouts.sources import LAYOUT_FOLDERS, RawPair, Source, find_source
from components.prepare.layouts.splits import choose_splits
from components.prepare.problems import Problem, refuse_first
from components.prepare.reading.geometry import Resize
from components.prepare.reading.labels import Labels, spell_out
from components.prepare.reading.pairs import Reading
from components.prepare.writing.dataset import write_dataset
from components.prepare.writing.folders import partial_folder
from components.prepare.writing.journal import source_digest
from shared import tracking
from shared.contracts.dataset import SPLITS, DatasetManifest
from shared.data.frames import CACHE, cache_file


def run(raw_data: str, dataset: Path, config: PrepareConfig) -> dict[str, float]:
    """Check paired images of any usual layout and write them as a data set that every later step
    reads.

    The data set appears whole or not at all. The same command again continues what was interrupted,
    or finds that all is done. `raw_data` is a folder of images, an archive of one, or the URL of
    either.
    """
    # What is asked for, checked before any work.
    dataset = dataset.resolve()
    refuse_contradictions(config)

    # What there is: pairs by name, from a local folder. Nothing is opened yet.
    source, pairs, problems = find_pairs(raw_data, config)
    refuse_first(problems)
    reading = reading_for(config, source)
    manifest = DatasetManifest(
        num_labels=config.num_labels,
        input_nc=0 if config.num_labels else config.input_nc,
        has_instances=config.instances != "none",
        instance_suffix=".png",
        train=[],
        test=[],
        source=as_shown(raw_data) if is_remote(raw_data) else str(Path(raw_data).resolve()),
        source_digest=source_digest(pairs),
        # Without what does not change the images, and with the table that the file now holds.
        config=config.model_dump(exclude={"cache_limit_gb", "copies"})
        | {"remap": spell_out(config.remap)},
        digest="",
    )

    # The same command again means continue.
    if found := read_if_same(dataset, manifest):
        print(f"prepare: already prepared: {dataset}", flush=True)
        return report(found, dataset)

    # What headers tell is refused before anything is written, what pixels tell before anything is
    # put in place.
    wide_ids, cache_bytes = survey(pairs, reading, manifest)
    if wide_ids:
        manifest = manifest.model_copy(update={"instance_suffix": ".tif"})
    if not cache_fits(cache_bytes, config.cache_limit_gb, dataset):
        cache_bytes = 0
    manifest, pairs_per_second = write_dataset(pairs, dataset, manifest, reading, cache_bytes)

    # What has been made.
    sizes = {(pair.height, pair.width) for pair in manifest.train + manifest.test}
    shown = "{}x{}".format(*sizes.pop()) if len(sizes) == 1 else f"{len(sizes)} sizes"
    print(f"prepare: wrote {dataset} at {shown}, digest {manifest.digest}", flush=True)
    return report(manifest, dataset, pairs_per_second=pairs_per_second)


def find_pairs(
    raw_data: str, config: PrepareConfig
) -> tuple[Source, dict[str, list[RawPair]], list[Problem]]:
    """The source, copied or unpacked where that is needed; its pairs by our splits; what has no
    partner."""
    # A folder on this machine.
    user_cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    copies = Path(config.copies or f"{user_cache}/pix2pix-pipeline").expanduser()
    root = fetch(raw_data, copies) if is_remote(raw_data) else Path(raw_data).resolve()
    if not unpacked(root) and (archives := archives_in(root)):
        root = extract(archives, copies)

    # Its pairs, and which of them are for training.
    source = find_source(
        root,
        config.layout,
        config.direction,
        want_instances=config.instances == "files",
        folders=(config.input_folder, config.photo_folder, config.instance_folder),
    )
    pairs, problems = choose_splits(
        source,
        config.train_splits,
        config.test_splits,
        config.test_fraction,
        config.seed,
        config.max_images,
    )
    return source, pairs, source.problems + problems


def unpacked(root: Path) -> bool:
    """Whether a layout lies in the folder, perhaps beside the archives that it came in."""
    return root.is_dir() and bool(subfolders(str(root)) & LAYOUT_FOLDERS)


def reading_for(config: PrepareConfig, source: Source) -> Reading:
    """How the files of this source are read. Raises InputError for a --remap that cannot be."""
    labels = None
    if config.num_labels:
        labels = Labels.of(config.num_labels, config.remap, config.ignore_labels)
    return Reading(
        labels=labels,
        input_nc=config.input_nc,
        instances=config.instances,
        side_by_side=source.layout == "side_by_side",
        input_half="left" if config.direction == "AtoB" else "right",
        white_level=config.white_level,
        resize=Resize.parse(config.size),
    )


def cache_fits(cache_bytes: int, limit_gb: float, dataset: Path) -> bool:
    """Whether decoded images are to be stored as well; says so where they are wanted but too
    large."""
    # The image files need room too; an interrupted run's caches are there already.
    place = next(parent for parent in dataset.parents if parent.exists())
    caches = [cache_file(partial_folder(dataset), split) for split in SPLITS]
    there = sum(file.stat().st_size for file in caches if file.is_file())
    free = shutil.disk_usage(place).free / 2 + there

    most = min(limit_gb * 1e9, free)
    if limit_gb and cache_bytes > most:
        bound = f"--cache-limit-gb {limit_gb:g}"
        if most == free:
            bound = f"half of what is free in {place}"
        print(
            f"prepare: no cache: it would take up to {cache_bytes / 1e9:.1f} GB, more than "
            f"{bound}; training will decode image files",
            flush=True,
        )
    return 0 < cache_bytes <= most


def report(manifest: DatasetManifest, dataset: Path, **speed: float) -> dict[str, float]:
    """The step's figures, which also go to its MLflow run."""
    figures = {
        "train_pairs": len(manifest.train),
        "test_pairs": len(manifest.test),
        "test_photos": sum(pair.has_photo for pair in manifest.test),
        "cache_gb": sum(file.stat().st_size for file in (dataset / CACHE).glob("*.bin")) / 1e9,
        **speed,
    }
    tracking.log_dataset(dataset, manifest.digest, "training")
    tracking.log_figures(figures)
    return figures
