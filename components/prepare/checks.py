"""What cannot be prepared, refused before anything is written: contradictions, what headers tell,
and a --dataset that holds something else."""

from functools import partial
from pathlib import Path

from components.prepare.config import PrepareConfig
from components.prepare.layouts.sources import RawPair
from components.prepare.problems import refuse_first
from components.prepare.reading.pairs import Reading, read_header
from components.prepare.writing.dataset import digest_of
from components.prepare.writing.folders import is_occupied
from components.prepare.writing.parallel import parallel_map
from shared.contracts.dataset import SPLITS, DatasetManifest, Pair
from shared.data.frames import record_bytes
from shared.errors import InputError


def refuse_contradictions(config: PrepareConfig) -> None:
    """Refuse options of label maps where the input is a picture."""
    if config.num_labels:
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


def survey(
    pairs: dict[str, list[RawPair]], reading: Reading, manifest: DatasetManifest
) -> tuple[bool, int]:
    """By the headers of all files: whether instance ids may need 32 bits, and the most bytes that
    the cache may take.

    Raises InputError where the files of a pair do not fit together.
    """
    wide_ids, cache_bytes, problems = False, 0, []
    work = partial(read_header, reading=reading)
    for split in SPLITS:
        headers = parallel_map(work, pairs[split], len(pairs[split]))
        for raw, header in zip(pairs[split], headers, strict=True):
            problems += header.problems
            wide_ids |= header.wide_ids
            if not header.problems:
                height, width = reading.resize.size_of(header.height, header.width)
                most_ids = min(height * width, 1 << 15)  # up to here 2 bytes per pixel
                pair = Pair(raw.name, height, width, raw.photo is not None, most_ids)
                cache_bytes += record_bytes(manifest, pair)
    refuse_first(problems)
    return wide_ids, cache_bytes


def read_if_same(dataset: Path, wanted: DatasetManifest) -> DatasetManifest | None:
    """The manifest that an earlier run of the same command left; None where there is nothing.

    Raises InputError for anything else in the folder.
    """
    if not is_occupied(dataset, "--dataset"):
        return None
    remedy = "remove it first, or give a new folder"
    try:
        found = DatasetManifest.read(dataset)
    except InputError:
        raise InputError(
            f"--dataset {dataset} is not empty and holds no data set of this version: {remedy}."
        ) from None

    # Made with the same options,
    options = [
        f"--{name.replace('_', '-')}"
        for name in wanted.config
        if found.config.get(name) != wanted.config[name]
    ]
    if options:
        raise InputError(
            f"--dataset {dataset} was prepared with other {', '.join(options)}: {remedy}."
        )

    # from the same files,
    if (found.source, found.source_digest) != (wanted.source, wanted.source_digest):
        raise InputError(
            f"--dataset {dataset} was prepared from {found.source} as it was then, "
            f"but the files are others now: {remedy}."
        )

    # and still as it was written.
    if digest_of(dataset, found) != found.digest:
        raise InputError(f"--dataset {dataset} was changed after it was prepared: {remedy}.")
    return found
