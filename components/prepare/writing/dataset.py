"""Raw pairs -> image files, cache and manifest of a data set, on all cores."""

import contextlib
import hashlib
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from components.prepare.layouts.pairing import RawPair
from components.prepare.problems import Problem, refuse_first, refused
from components.prepare.reading.pairs import Reading, read_pair
from components.prepare.writing.folders import written_whole
from components.prepare.writing.journal import (
    JOURNAL,
    KINDS,
    Journal,
    Written,
    jobs,
    remove_journal,
    stamp,
    take_over,
    write_sums,
)
from components.prepare.writing.parallel import parallel_map
from shared.contracts.dataset import SPLITS, DatasetManifest, Pair
from shared.data.frames import CACHE, checksum, pack, seal
from shared.data.images import encode_ids, encode_picture, resize_ids, resize_picture
from shared.data.maps import Sample
from shared.files.writing import taken_by_disk
from shared.terminal.progress import progress


@dataclass(slots=True)
class Done:
    """What became of one pair."""

    written: Written | None = None  # None where there are problems
    record: bytes = b""  # for the cache
    problems: list[Problem] = field(default_factory=list)


def write_pair(
    job: tuple[str, RawPair],
    folder: Path,
    manifest: DatasetManifest,
    reading: Reading,
    cached: bool,
) -> Done:
    """Read, check, resize and write one pair: ids by nearest neighbour, pictures bicubic."""
    # The stamp first: a file that changes while it is read has another one at the next run.
    split, raw = job
    before = stamp(raw)
    frame, problems = read_pair(raw, reading)
    if refused(problems):
        return Done(problems=problems)

    # All maps at one size, each from its own.
    size = reading.resize.size_of(*frame.size)
    resize_input = resize_picture if manifest.input_nc else resize_ids
    inputs = resize_input(frame.input, *size)
    photo = None if frame.photo is None else resize_picture(frame.photo, *size)
    instances = None if frame.instances is None else resize_ids(frame.instances, *size)

    # A file for each.
    sha, sums = hashlib.sha256(), {}
    for kind, pixels in zip(KINDS, (inputs, photo, instances), strict=True):
        if pixels is None:
            continue
        path = manifest.path(folder, split, kind, raw.name)
        is_picture = kind == "photo" or (kind == "input" and manifest.input_nc)
        content = encode_picture(pixels, path.suffix) if is_picture else encode_ids(pixels, path)
        with taken_by_disk(path, len(content)):
            path.write_bytes(content)
        sha.update(content)
        sums[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()

    # The same again for the cache.
    sample = Sample.of_maps(raw.name, inputs, instances, photo)
    num_instances = 0 if instances is None else len(sample.ids)
    pair = Pair(raw.name, *size, photo is not None, num_instances)
    record = pack(manifest, pair, sample) if cached else b""
    numbers = sha.hexdigest(), before, checksum(record) if cached else 0
    return Done(Written(split, pair, sums, *numbers), record)


def _without_pairs(manifest: DatasetManifest) -> DatasetManifest:
    """What a worker needs of the manifest."""
    return manifest.model_copy(update={split: [] for split in SPLITS})


def write_dataset(
    pairs: dict[str, list[RawPair]],
    dataset: Path,
    manifest: DatasetManifest,
    reading: Reading,
    cache_bytes: int,
) -> tuple[DatasetManifest, float]:
    """Write all images, the cache (of `cache_bytes`, 0 = none) and the manifest; returns it, and
    pairs per second.

    All is written to a hidden folder beside `dataset`, which takes its place at the end. What a run
    that was stopped left there is taken over, pair by pair, where source and options are the same.
    Raises InputError at the first bad pair.
    """
    count, cached = sum(map(len, pairs.values())), cache_bytes > 0
    with written_whole(dataset, "--dataset", JOURNAL) as folder:
        finished = take_over(folder, manifest, pairs, cached)
        before = len(finished)

        # The rest, on all cores. The workers end before the folder is left: then nothing writes
        # to it.
        start = time.monotonic()
        small = _without_pairs(manifest)
        work = partial(write_pair, folder=folder, manifest=small, reading=reading, cached=cached)
        rest = islice(jobs(pairs), before, None)
        results = parallel_map(work, rest, count - before, cache_bytes // count)
        with Journal(folder) as journal, contextlib.closing(results):
            for done in progress(results, "prepare: wrote:", count, "pairs", before):
                refuse_first(done.problems)
                journal.add(done.written, done.record)
                finished.add(done.written)
        rate = (count - before) / max(time.monotonic() - start, 1e-9)

        # What the folder says about itself, and nothing in it that says nothing.
        digests = dict(digest=finished.digest(), test_digest=finished.test_digest())
        digests["files"] = write_sums(folder)
        manifest = manifest.model_copy(update=finished.pairs | digests)
        manifest.write(folder)
        if cached:
            seal(folder, manifest, finished.checksums)
        else:
            shutil.rmtree(folder / CACHE)
        for place in folder.iterdir():
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
        remove_journal(folder)
    return manifest, rate
