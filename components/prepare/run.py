"""The prepare step's story."""

import os
import shutil
from functools import partial
from pathlib import Path

from components.prepare.config import PrepareConfig
from components.prepare.fetch.archives import archives_in, extract
from components.prepare.fetch.remote import fetch, is_remote, without_secrets
from components.prepare.layouts.listing import subfolders
from components.prepare.layouts.sources import LAYOUT_FOLDERS, Problem, RawPair, Source, find_source
from components.prepare.layouts.splits import choose_splits
from components.prepare.reading.geometry import Resize
from components.prepare.reading.labels import Labels, spell_out
from components.prepare.reading.pairs import Reading, read_header
from components.prepare.writing.dataset import digest_of, refusal, write_dataset
from components.prepare.writing.folders import is_occupied, partial_folder
from components.prepare.writing.journal import source_digest
from components.prepare.writing.parallel import parallel_map
from shared import tracking
from shared.contracts.dataset import SPLITS, DatasetManifest, Pair
from shared.data.frames import CACHE, cache_file, record_bytes
from shared.errors import InputError


def run(raw_data: str, dataset: Path, config: PrepareConfig) -> dict[str, float]:
    """Check paired images of any usual layout and write them as a data set that every later step
    reads.

    The data set appears whole or not at all. The same command again continues what was interrupted,
    or finds that all is done."""
    dataset = dataset.resolve()

    # What there is: pairs by name, from a local folder. Nothing is opened yet.
    source, pairs, problems = find_pairs(raw_data, config)
    if problems:
        raise refusal(problems)
    reading = reading_for(config, source)
    manifest = DatasetManifest(
        num_labels=config.num_labels,
        input_nc=0 if config.num_labels else config.input_nc,
        has_instances=config.instances != "none",
        instance_suffix=".png",
        train=[],
        test=[],
        source=without_secrets(raw_data) if is_remote(raw_data) else str(Path(raw_data).resolve()),
        source_digest=source_digest(pairs),
        config=config.model_dump(
            exclude={"cache_limit_gb", "copies"}
        )  # these do not change the images
        | {"remap": spell_out(config.remap)},
        digest="",
    )

    # The same command again means continue.
    if found := read_if_same(dataset, manifest):
        print(f"prepare: already prepared: {dataset}", flush=True)
        return report(found, dataset)

    # What headers can tell is refused before anything is written; what pixels tell, before anything
    # is put in place.
    wide_ids, cache_bytes = survey(pairs, reading, manifest)
    if wide_ids:
        manifest = manifest.model_copy(update={"instance_suffix": ".tif"})
    if not cache_fits(cache_bytes, config.cache_limit_gb, dataset):
        cache_bytes = 0
    manifest, pairs_per_second = write_dataset(pairs, dataset, manifest, reading, cache_bytes)

    sizes = {(pair.height, pair.width) for pair in manifest.train + manifest.test}
    shown = "{}x{}".format(*sizes.pop()) if len(sizes) == 1 else f"{len(sizes)} sizes"
    print(f"prepare: wrote {dataset} at {shown}, digest {manifest.digest}", flush=True)
    return report(manifest, dataset, pairs_per_second=pairs_per_second)


def find_pairs(
    raw_data: str, config: PrepareConfig
) -> tuple[Source, dict[str, list[RawPair]], list[Problem]]:
    """The source, copied or unpacked where that is needed; its pairs by our splits; what has no
    partner."""
    copies = Path(
        config.copies or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/pix2pix-pipeline"
    ).expanduser()
    root = fetch(raw_data, copies) if is_remote(raw_data) else Path(raw_data).resolve()
    if not unpacked(root) and (archives := archives_in(root)):
        root = extract(archives, copies)
    folders = (config.input_folder, config.photo_folder, config.instance_folder)
    source = find_source(
        root, config.layout, config.direction, config.instances == "files", folders
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
    labels = (
        Labels.of(config.num_labels, config.remap, config.ignore_labels)
        if config.num_labels
        else None
    )
    if labels is None and config.instances == "components":
        raise InputError(
            "--instances components needs labels, but --num-labels is 0: say --instances files or "
            "none."
        )
    if labels is None and (config.remap or config.ignore_labels):
        raise InputError(
            "--remap and --ignore-labels change label ids, but --num-labels is 0: leave them out."
        )
    return Reading(
        labels=labels,
        input_nc=config.input_nc,
        instances=config.instances,
        side_by_side=source.layout == "side_by_side",
        input_half="left" if config.direction == "AtoB" else "right",
        white_level=config.white_level,
        resize=Resize.parse(config.size),
    )


def survey(
    pairs: dict[str, list[RawPair]], reading: Reading, manifest: DatasetManifest
) -> tuple[bool, int]:
    """Whether instance ids may need 32 bits, and the most bytes that the cache may take, by the
    headers of all files.

    Raises InputError where one does not fit.
    """
    wide_ids, cache_bytes, problems = False, 0, []
    for split in SPLITS:
        headers = parallel_map(
            partial(read_header, reading=reading), pairs[split], len(pairs[split])
        )
        for raw, header in zip(pairs[split], headers, strict=True):
            problems += header.problems
            wide_ids |= header.wide_ids
            if not header.problems:
                height, width = reading.resize.size_of(header.height, header.width)
                most_ids = min(height * width, 1 << 15)  # up to here 2 bytes per pixel
                pair = Pair(raw.name, height, width, raw.photo is not None, most_ids)
                cache_bytes += record_bytes(manifest, pair)
    if problems:
        raise refusal(problems)
    return wide_ids, cache_bytes


def cache_fits(cache_bytes: int, limit_gb: float, dataset: Path) -> bool:
    """Whether decoded images are to be stored as well; says so where they are wanted but too
    large."""
    place = next(parent for parent in dataset.parents if parent.exists())
    caches = [cache_file(partial_folder(dataset), split) for split in SPLITS]
    there = sum(file.stat().st_size for file in caches if file.is_file())  # an interrupted run's
    free = shutil.disk_usage(place).free / 2 + there  # the image files need room too
    if limit_gb and cache_bytes > min(limit_gb * 1e9, free):
        bound = (
            f"--cache-limit-gb {limit_gb:g}"
            if limit_gb * 1e9 < free
            else f"half of what is free in {place}"
        )
        print(
            f"prepare: no cache: it would take up to {cache_bytes / 1e9:.1f} GB, more than "
            f"{bound}; "
            "training will decode image files",
            flush=True,
        )
    return 0 < cache_bytes <= min(limit_gb * 1e9, free)


def read_if_same(dataset: Path, wanted: DatasetManifest) -> DatasetManifest | None:
    """The manifest that an earlier run of the same command left; None where there is nothing;
    refuses anything else."""
    if not is_occupied(dataset, "--dataset"):
        return None
    remedy = "remove it first, or give a new folder"
    try:
        found = DatasetManifest.read(dataset)
    except InputError:
        raise InputError(
            f"--dataset {dataset} is not empty and holds no data set of this version: {remedy}."
        ) from None
    options = [
        f"--{name.replace('_', '-')}"
        for name in wanted.config
        if found.config.get(name) != wanted.config[name]
    ]
    if options:
        raise InputError(
            f"--dataset {dataset} was prepared with other {', '.join(options)}: {remedy}."
        )
    if (found.source, found.source_digest) != (wanted.source, wanted.source_digest):
        raise InputError(
            f"--dataset {dataset} was prepared from {found.source} as it was then, but the files "
            "are others now: "
            f"{remedy}."
        )
    if digest_of(dataset, found) != found.digest:
        raise InputError(f"--dataset {dataset} was changed after it was prepared: {remedy}.")
    return found


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
