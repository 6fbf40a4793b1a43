"""What cannot be prepared, refused before anything is written: contradictions, what headers tell,
and a --dataset that holds something else."""

import shutil
from functools import partial
from pathlib import Path

from components.prepare.config import DEMO_SIZE, DEMO_TEST, DEMO_TRAIN, PrepareConfig
from components.prepare.fetch.archives import check_head
from components.prepare.fetch.remote import as_shown, is_remote
from components.prepare.fetch.stores import check_client, parse_url
from components.prepare.kinds import Kinds
from components.prepare.labels import (
    NVIDIA_LABELS,
    label_reader,
    told_num_labels,
    usual_num_labels,
)
from components.prepare.layouts.pairing import RawPair
from components.prepare.problems import refuse_first, refused, tell_accepted
from components.prepare.raw_data import (
    find_pairs,
    folder_at_hand,
    packed_in,
    reading_for,
)
from components.prepare.reading.geometry import Resize
from components.prepare.reading.levels import Levels
from components.prepare.reading.pairs import Reading, read_header
from components.prepare.writing.folders import is_occupied
from components.prepare.writing.parallel import parallel_map
from shared.contracts.dataset import SPLITS, DatasetManifest, Pair, parse_size
from shared.contracts.forecast import Forecast, PreparedData
from shared.data.checking import refuse_other_files
from shared.data.frames import cache_file, record_bytes
from shared.data.written import NotAsPrepared
from shared.errors import InputError
from shared.files.writing import partial_of

SAMPLE_PAIRS = 8  # of each split, whose headers are read before the first step
MOST_IDS = 1 << 15  # instances of a pair up to which an id takes 2 bytes per pixel
FILE_BYTES_PER_PIXEL = 1.5  # of photo, labels and instances as PNG; Cityscapes' take 1.3


def refuse_contradictions(config: PrepareConfig, here: bool = True) -> None:
    """Refuse options of label maps where the input is a picture; and on the machine where the step
    will run, files of labels that do not fit."""
    if config.num_labels != 0:
        if here:
            label_reader(config, usual=None)
        return
    if config.instances == "components":
        raise InputError(
            "--instances components needs labels, but --num-labels is 0: "
            "say --instances files or none."
        )
    if config.remap or config.ignore_labels:
        raise InputError(
            "--remap and --ignore-labels change label ids, but --num-labels is 0: leave them out."
        )
    if config.labels:
        raise InputError("--labels names labels, but --num-labels is 0: leave it out.")


def manifest_options(config: PrepareConfig, num_labels: int) -> dict[str, object]:
    """What the config tells of a data set of so many labels."""
    return dict(
        num_labels=num_labels,
        input_nc=0 if num_labels else config.input_nc,
        has_instances=config.instances != "none",
    )


def survey(
    pairs: dict[str, list[RawPair]],
    reading: Reading,
    manifest: DatasetManifest,
    refuse_dark: bool = False,
) -> tuple[bool, int, Kinds]:
    """By the headers of all files: whether instance ids may need 32 bits, the most bytes that the
    cache may take, and what label maps are.

    Args:
        refuse_dark: Look at pixels too, until there is a bright picture.

    Raises InputError where the files of a pair do not fit together, and for pictures that are all
    dark.
    """
    wide_ids, cache_bytes, kinds, problems, levels = False, 0, Kinds(), [], Levels()
    work = partial(read_header, reading=reading)
    for split in SPLITS:
        headers = parallel_map(work, pairs[split], len(pairs[split]))
        for raw, header in zip(pairs[split], headers, strict=True):
            problems += header.problems
            wide_ids |= header.wide_ids
            kinds.note(raw, header)
            levels.add(raw, header)
            if not refused(header.problems):
                height, width = reading.resize.size_of(header.height, header.width)
                cache_bytes += record_bytes(manifest, expected_pair(raw, height, width))
    refuse_first(problems)
    if refuse_dark:
        refuse_first(levels.problems())
    tell_accepted(problems)
    return wide_ids, cache_bytes, kinds


def expected_pair(raw: RawPair, height: int, width: int) -> Pair:
    """A pair as its manifest will have it, with as many instances as take the most room that is
    usual."""
    return Pair(raw.name, height, width, raw.photo is not None, min(height * width, MOST_IDS))


def cache_fits(cache_bytes: int, limit_gb: float, dataset: Path) -> bool:
    """Whether decoded images are to be stored as well; says so where they are wanted but too
    large."""
    most, bound = cache_room(limit_gb, dataset)
    if limit_gb and cache_bytes > most:
        print(
            f"prepare: no cache: it would take up to {cache_bytes / 1e9:.1f} GB, more than "
            f"{bound}; training will decode image files",
            flush=True,
        )
    return 0 < cache_bytes <= most


def cache_room(limit_gb: float, dataset: Path) -> tuple[float, str]:
    """The most bytes that the cache of a data set may take, and what limits them."""
    # The image files need room too; an interrupted run's caches are there already.
    place = next(parent for parent in dataset.parents if parent.exists())
    caches = [cache_file(partial_of(dataset), split) for split in SPLITS]
    there = sum(file.stat().st_size for file in caches if file.is_file())
    free = shutil.disk_usage(place).free / 2 + there
    if limit_gb * 1e9 <= free:
        return limit_gb * 1e9, f"--cache-limit-gb {limit_gb:g}"
    return free, f"half of what is free in {place}"


def read_if_same(
    dataset: Path, source: str, source_digest: str, config: dict
) -> DatasetManifest | None:
    """The manifest that an earlier run of the same command left; None where there is nothing.

    Raises InputError for anything else in the folder.
    """
    if not is_occupied(dataset, "--dataset"):
        return None
    remedy = "remove it first, or give a new folder"
    try:
        found = DatasetManifest.read(dataset)
    except InputError as error:
        found = str(error).partition(": ")[0]
        raise InputError(
            f"--dataset {dataset} is not empty and holds no data set of this version: {remedy} "
            f"({found})."
        ) from None

    # Made with the same options,
    options = [
        f"--{name.replace('_', '-')}"
        for name, value in config.items()
        # A data set of an earlier version knows nothing of an option that is new.
        if found.config.get(name, PrepareConfig.model_fields[name].default) != value
    ]
    if options:
        raise InputError(
            f"--dataset {dataset} was prepared with other {', '.join(options)}: {remedy}."
        )

    # from the same files,
    if (found.source, found.source_digest) != (source, source_digest):
        raise InputError(
            f"--dataset {dataset} was prepared from {found.source} as it was then, "
            f"but the files are others now: {remedy}."
        )

    # and still as it was written.
    try:
        refuse_other_files(dataset, found)
    except NotAsPrepared as error:
        found = str(error).rpartition(": ")[0]
        raise InputError(
            f"--dataset {dataset} was changed after it was prepared: {remedy} ({found})."
        ) from None
    return found


# Before the first step of a pipeline.


def preflight(
    raw_data: str | None, dataset: Path, config: PrepareConfig, here: bool = True
) -> Forecast[PreparedData]:
    """What the step will refuse, and what it will make.

    Args:
        raw_data: Absolute path or URL; None: the demo scenes, which are still to be drawn.
        dataset: Folder that it will write.
        here: Whether it will run on this machine: else no file is looked for.
    """
    # What is asked for.
    forecast = Forecast()
    forecast.refusals.of(refuse_contradictions, config, here)

    # The pairs, as far as they can be seen.
    pairs, usual = None, NVIDIA_LABELS if config.layout == "cityscapes" else None
    if here and raw_data is None:
        pairs, usual = forecast.refusals.of(demo_pairs, config), NVIDIA_LABELS
    elif here and is_remote(raw_data):
        forecast.refusals.of(check_client, *parse_url(raw_data)[:2])
        forecast.unknown.append(f"{as_shown(raw_data)}: what is there was not looked at")
    elif here:
        at_hand = forecast.refusals.of(pairs_at_hand, raw_data, config)
        if at_hand:
            pairs, usual = at_hand
        elif not forecast.refusals:
            forecast.unknown.append(f"{raw_data}: what is packed in it was not looked at")

    # How many labels there are, as far as no pixel has to be read.
    num_labels = foretold_num_labels(config, usual)
    if num_labels is None and pairs is not None:
        forecast.unknown.append("how many labels there are, which the maps tell")

    # Where they are not here, one stands for all if all will have one size.
    resize = Resize.parse(config.size)
    if pairs is None:
        if resize.height and resize.width:
            one = Pair("one", resize.height, resize.width, has_photo=True, num_instances=1)
            pairs = {"train": [one], "test": []}
            manifest = expected_manifest(config, num_labels, pairs)
            has_cache = config.cache_limit_gb > 0
            forecast.gives = PreparedData(manifest, has_cache, num_labels is not None)
        return forecast

    # What they take.
    manifest = expected_manifest(config, num_labels, pairs)
    everything = pairs["train"] + pairs["test"]
    cache_bytes = sum(record_bytes(manifest, pair) for pair in everything)
    has_cache = cache_bytes <= cache_room(config.cache_limit_gb, dataset)[0]
    pixels = sum(pair.height * pair.width for pair in everything)
    forecast.stay_bytes = FILE_BYTES_PER_PIXEL * pixels + has_cache * cache_bytes
    forecast.found = f"{len(pairs['train'])} + {len(pairs['test'])} pairs"
    forecast.gives = PreparedData(manifest, has_cache, num_labels is not None)
    return forecast


def demo_pairs(config: PrepareConfig) -> dict[str, list[Pair]]:
    """The pairs of the demo scenes. Raises InputError where the config is for other data."""
    wanted = "--num-labels 0" if config.num_labels == 0 else f"--layout {config.layout}"
    if config.num_labels == 0 or config.layout not in ("auto", "cityscapes"):
        raise InputError(
            f"{wanted} does not fit the demo scenes, label maps in Cityscapes' layout, that are "
            "drawn where there is no --raw-data: give --raw-data."
        )
    size = Resize.parse(config.size).size_of(*parse_size(DEMO_SIZE))
    scene = expected_pair(RawPair("demo", "", "", None), *size)
    counts = {"train": 0 if config.test_only else DEMO_TRAIN, "test": DEMO_TEST}
    most = config.max_images or max(counts.values())
    return {split: [scene] * min(count, most) for split, count in counts.items()}


def pairs_at_hand(
    raw_data: str, config: PrepareConfig
) -> tuple[dict[str, list[Pair]], int | None] | None:
    """The pairs of a folder, by its listing and the headers of the first, and the usual number of
    labels in its layout; None of archives that are not unpacked yet. Raises InputError for what the
    step will refuse of them."""
    root = folder_at_hand(raw_data, config)
    if root is None:
        for archive in packed_in(Path(raw_data), config):
            check_head(archive)
        return None

    # The files.
    source, found, problems = find_pairs(root, config)
    refuse_first(problems)
    reading = reading_for(config, source)

    # The sizes of the first; the others are taken to be like them.
    pairs = {}
    for split in SPLITS:
        headers = [read_header(raw, reading) for raw in found[split][:SAMPLE_PAIRS]]
        refuse_first([problem for header in headers for problem in header.problems])
        sizes = [reading.resize.size_of(header.height, header.width) for header in headers]
        pairs[split] = [
            expected_pair(raw, *sizes[min(number, len(sizes) - 1)])
            for number, raw in enumerate(found[split])
        ]
    return pairs, usual_num_labels(source)


def foretold_num_labels(config: PrepareConfig, usual: int | None) -> int | None:
    """Number of labels as `told_num_labels`; None also where a file cannot be read: it is refused
    elsewhere, or on another machine."""
    try:
        return told_num_labels(config, usual)
    except InputError:
        return None


def expected_manifest(
    config: PrepareConfig, num_labels: int | None, pairs: dict[str, list[Pair]]
) -> DatasetManifest:
    """The manifest of these pairs, without what only the step can tell; num_labels: None = not
    known."""
    return DatasetManifest(
        **manifest_options(config, NVIDIA_LABELS if num_labels is None else num_labels),
        instance_suffix=".png",
        **pairs,
        source="",
        source_digest="",
        config={},
        digest="",
    )
