"""The prepare step's story."""

from pathlib import Path
from typing import Any

from components.prepare.checks import (
    cache_fits,
    manifest_options,
    read_if_same,
    refuse_contradictions,
    survey,
)
from components.prepare.config import PrepareConfig
from components.prepare.fetch.remote import as_shown, is_remote
from components.prepare.labels import (
    NVIDIA_LABELS,
    ignored_labels,
    known_labels,
    num_labels_of_maps,
    spell_out,
    spell_out_labels,
    told_num_labels,
    usual_num_labels,
)
from components.prepare.layouts.pairing import RawPair
from components.prepare.problems import refuse_first
from components.prepare.raw_data import decide_kind, find_pairs, local_folder, reading_for
from components.prepare.reading.pairs import Reading
from components.prepare.writing.dataset import write_dataset
from components.prepare.writing.journal import source_digest
from shared import tracking
from shared.contracts.dataset import DatasetManifest
from shared.contracts.labels import RawReading
from shared.data.frames import CACHE


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

    # What there is: pairs by name. Nothing is opened yet.
    source, pairs, problems = find_pairs(local_folder(raw_data, config), config)
    for note in source.notes:
        print(f"prepare: {note}", flush=True)
    refuse_first(problems)
    reading = reading_for(config, source)
    made_of = origin(raw_data, pairs, config)

    # The same command again means continue.
    if found := read_if_same(dataset, **made_of):
        print(f"prepare: already prepared: {dataset}", flush=True)
        return report(found, dataset)

    # What headers tell is refused before anything is written, what pixels tell before anything is
    # put in place.
    usual = usual_num_labels(source)
    num_labels = told_num_labels(config, usual)
    manifest = planned(config, reading, num_labels, ignored_labels(config, usual), made_of)
    refuse_dark = config.white_level == "auto"
    wide_ids, cache_bytes, kinds = survey(pairs, reading, manifest, refuse_dark)
    everything = pairs["train"] + pairs["test"]
    decision = decide_kind(kinds, everything, reading, config)
    refuse_first(decision.problems)
    if decision.said:
        print(f"prepare: what says the labels: {decision.said}", flush=True)

    # What it becomes.
    if num_labels is None:
        num_labels = num_labels_of_maps(everything, decision.reading, config, source.root)
    of_palettes = [label for label in decision.labels if label.id < num_labels]
    found = dict(
        num_labels=num_labels,
        labels=known_labels(config, source.layout, num_labels) or of_palettes,
        raw=manifest.raw.model_copy(update={"coloured": decision.by_colour}),
        instance_suffix=".tif" if wide_ids else ".png",
    )
    manifest = manifest.model_copy(update=found)
    if not cache_fits(cache_bytes, config.cache_limit_gb, dataset):
        cache_bytes = 0
    manifest, pairs_per_second = write_dataset(
        pairs, dataset, manifest, decision.reading, cache_bytes
    )

    # What has been made.
    sizes = {(pair.height, pair.width) for pair in manifest.train + manifest.test}
    shown = "{}x{}".format(*sizes.pop()) if len(sizes) == 1 else f"{len(sizes)} sizes"
    print(f"prepare: wrote {dataset} at {shown}, digest {manifest.digest}", flush=True)
    return report(manifest, dataset, pairs_per_second=pairs_per_second)


def origin(raw_data: str, pairs: dict[str, list[RawPair]], config: PrepareConfig) -> dict[str, Any]:
    """What a manifest says of where its data set comes from: other images or options make another
    one."""
    return dict(
        source=as_shown(raw_data) if is_remote(raw_data) else str(Path(raw_data).resolve()),
        source_digest=source_digest(pairs),
        # Without what does not change the images, and with the tables that the files now hold.
        config=config.model_dump(exclude={"cache_limit_gb", "copies"})
        | {"remap": spell_out(config.remap), "labels": spell_out_labels(config.labels)},
    )


def planned(
    config: PrepareConfig,
    reading: Reading,
    num_labels: int | None,
    ignored: str,
    made_of: dict[str, Any],
) -> DatasetManifest:
    """The manifest as far as it is told without a look at the files.

    Args:
        num_labels: None: the maps will tell.
        ignored: Ids that are no labels, as --ignore-labels has them.
        made_of: Its `origin`.
    """
    return DatasetManifest(
        **manifest_options(config, NVIDIA_LABELS if num_labels is None else num_labels),
        **made_of,
        instance_suffix=".png",
        train=[],
        test=[],
        digest="",
        raw=RawReading(
            colour_tolerance=config.colour_tolerance,
            transparent_label=config.transparent_label,
            remap=spell_out(config.remap),
            ignore_labels=ignored,
            instances=config.instances,
            white_level=reading.white_level,
            transparency=config.transparency,
        ),
    )


def report(manifest: DatasetManifest, dataset: Path, **speed: float) -> dict[str, float]:
    """The step's figures, which also go to its MLflow run."""
    figures = {
        "train_pairs": len(manifest.train),
        "test_pairs": len(manifest.test),
        "test_photos": sum(pair.has_photo for pair in manifest.test),
        "cache_gb": sum(file.stat().st_size for file in (dataset / CACHE).glob("*.bin")) / 1e9,
        **speed,
    }
    tracking.log_dataset(manifest.name, dataset, manifest.digest, "training")
    tracking.log_figures(figures)
    return figures
