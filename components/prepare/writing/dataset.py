"""Raw pairs -> files and cache of a data set, in parallel; what an interrupted run did is not done
again."""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from components.prepare.layouts.sources import REMEDIES, Problem, RawPair
from components.prepare.reading.pairs import Reading, read_pair
from components.prepare.writing.folders import clear, written_whole
from components.prepare.writing.parallel import parallel_map
from shared.contracts.dataset import SPLITS, DatasetManifest, Pair
from shared.contracts.folder import write_atomically
from shared.data.frames import CACHE, Frame, cache_file, densify, pack, record_bytes, seal
from shared.data.images import encode_ids, encode_picture, resize_ids, resize_photo
from shared.errors import InputError
from shared.progress import progress

JOURNAL = "journal.jsonl"  # one line per pair that is done, in order
SETTINGS = "settings.json"  # what the journal belongs to
KINDS = ("input", "photo", "instance")
FLUSH_SECONDS = 2


@dataclass(slots=True)
class Done:
    """What became of one pair."""

    split: str
    pair: Pair | None  # None where there are problems
    digest: str = ""  # of its files
    stamp: str = ""  # of its source files
    record: bytes = b""  # for the cache
    problems: list[Problem] | None = None


def stamp(pair: RawPair) -> str:
    """Sizes and times of the source files: changes when one of them does."""
    files = dict.fromkeys(filter(None, (pair.input, pair.photo, pair.instance)))
    return " ".join(f"{status.st_size}-{status.st_mtime_ns}" for status in map(os.stat, files))


def source_digest(pairs: dict[str, list[RawPair]]) -> str:
    """Short SHA-256 of the names and stamps of all pairs."""
    sha = hashlib.sha256()
    for split in SPLITS:
        for pair in pairs[split]:
            sha.update(f"{split}/{pair.name} {stamp(pair)}\n".encode())
    return sha.hexdigest()[:16]


def _jobs(pairs: dict[str, list]) -> Iterator[tuple[str, RawPair | Pair]]:
    """Split and pair, in the order in which they are written and hashed."""
    return ((split, pair) for split in SPLITS for pair in pairs[split])


def write_pair(
    job: tuple[str, RawPair],
    folder: Path,
    manifest: DatasetManifest,
    reading: Reading,
    cached: bool,
) -> Done:
    """Read, check, resize and write one pair: ids by nearest neighbour, pictures bicubic."""
    split, raw = job
    before = stamp(raw)
    frame, problems = read_pair(raw, reading)
    if problems:
        return Done(split, None, problems=problems)
    size = reading.resize.size_of(*frame.input.shape[-2:])
    inputs = (
        resize_photo(frame.input, *size) if manifest.input_nc else resize_ids(frame.input, *size)
    )
    photo = None if frame.photo is None else resize_photo(frame.photo, *size)
    instances = None if frame.instances is None else resize_ids(frame.instances, *size)

    sha = hashlib.sha256()
    for kind, pixels in zip(KINDS, (inputs, photo, instances), strict=True):
        if pixels is None:
            continue
        path = manifest.path(folder, split, kind, raw.name)
        is_picture = kind == "photo" or (kind == "input" and manifest.input_nc)
        content = encode_picture(pixels, path.suffix) if is_picture else encode_ids(pixels, path)
        path.write_bytes(content)
        sha.update(content)

    ids, dense_ids = (None, None) if instances is None else densify(instances)
    pair = Pair(raw.name, *size, photo is not None, 0 if ids is None else len(ids))
    record = b""
    if cached:
        record = pack(manifest, pair, Frame(inputs, photo, ids, dense_ids))
    return Done(split, pair, sha.hexdigest(), before, record)


def image_files(manifest: DatasetManifest, folder: Path, split: str, pair: Pair) -> list[Path]:
    """Files of one prepared pair, in the order in which they are hashed."""
    kinds = ["input"] + ["photo"] * pair.has_photo + ["instance"] * manifest.has_instances
    return [manifest.path(folder, split, kind, pair.name) for kind in kinds]


def hash_pair(job: tuple[str, Pair], folder: Path, manifest: DatasetManifest) -> str:
    """Digest of a prepared pair's files as they are now; empty where one is missing."""
    sha = hashlib.sha256()
    for path in image_files(manifest, folder, *job):
        if not path.is_file():
            return ""
        sha.update(path.read_bytes())
    return sha.hexdigest()


def digest_of(dataset: Path, manifest: DatasetManifest) -> str:
    """Digest of a data set's files as they are now."""
    pairs = {split: getattr(manifest, split) for split in SPLITS}
    work = partial(hash_pair, folder=dataset, manifest=_without_pairs(manifest))
    finished, hashes = Finished(), parallel_map(work, _jobs(pairs), sum(map(len, pairs.values())))
    for (split, pair), found in zip(_jobs(pairs), hashes, strict=True):
        finished.add(split, pair, found)
    return finished.digest()


def _without_pairs(manifest: DatasetManifest) -> DatasetManifest:
    """What a worker needs of it."""
    return manifest.model_copy(update={"train": [], "test": []})


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
    Raises InputError at the first bad pair."""
    count, cached = sum(map(len, pairs.values())), cache_bytes > 0
    with written_whole(dataset, "--dataset", JOURNAL) as folder:
        finished = _take_over(folder, manifest, pairs, cached)
        start, before = time.monotonic(), len(finished)
        with contextlib.ExitStack() as stack:
            journal = stack.enter_context(open(folder / JOURNAL, "a"))
            caches = {
                split: stack.enter_context(open(cache_file(folder, split), "ab"))
                for split in SPLITS
            }
            flushed = time.monotonic()
            options = dict(
                folder=folder, manifest=_without_pairs(manifest), reading=reading, cached=cached
            )
            rest = islice(_jobs(pairs), before, None)
            # Closed before the folder is left: nothing writes to it then.
            results = parallel_map(
                partial(write_pair, **options), rest, count - before, cache_bytes // count
            )
            stack.enter_context(contextlib.closing(results))
            for done in progress(results, "wrote", count, before):
                if done.problems:
                    raise refusal(done.problems)
                caches[done.split].write(done.record)
                journal.write(
                    json.dumps([done.split, asdict(done.pair), done.digest, done.stamp]) + "\n"
                )
                finished.add(done.split, done.pair, done.digest)
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    for file in (
                        *caches.values(),
                        journal,
                    ):  # the journal last: it vouches for the others
                        file.flush()
                    flushed = time.monotonic()
        rate = (count - before) / max(time.monotonic() - start, 1e-9)

        manifest = manifest.model_copy(update=finished.pairs | {"digest": finished.digest()})
        manifest.write(folder)
        if cached:
            seal(folder, manifest)
        else:
            shutil.rmtree(folder / CACHE)
        for place in folder.iterdir():
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
        for name in (JOURNAL, SETTINGS):
            (folder / name).unlink()
    return manifest, rate


class Finished:
    """The pairs that are done."""

    def __init__(self):
        self.pairs: dict[str, list[Pair]] = {split: [] for split in SPLITS}
        self._sha = hashlib.sha256()

    def __len__(self) -> int:
        return sum(map(len, self.pairs.values()))

    def add(self, split: str, pair: Pair, digest: str) -> None:
        """digest: of the pair's files."""
        self.pairs[split].append(pair)
        self._sha.update(f"{split}/{pair.name} {digest}\n".encode())

    def digest(self) -> str:
        """Of the whole data set, short."""
        return self._sha.hexdigest()[:16]


def _take_over(
    folder: Path, manifest: DatasetManifest, pairs: dict[str, list[RawPair]], cached: bool
) -> Finished:
    """What an earlier run of the same command did, as long as its source is the same; the rest is
    thrown away."""
    # Not the source's digest: the journal has a stamp for each pair.
    settings = _without_pairs(manifest).model_dump_json(exclude={"source_digest"}).encode()
    if not (folder / SETTINGS).is_file() or (folder / SETTINGS).read_bytes() != settings:
        (folder / JOURNAL).unlink(missing_ok=True)  # first: it vouches for the others
        clear(folder)
        write_atomically(folder / SETTINGS, settings)
    (folder / JOURNAL).touch()
    (folder / CACHE).mkdir(exist_ok=True)
    for split in SPLITS:
        cache_file(folder, split).touch()
    finished, journal_bytes = Finished(), 0
    cache_bytes = dict.fromkeys(SPLITS, 0)
    cache_there = {split: cache_file(folder, split).stat().st_size for split in SPLITS}
    with open(folder / JOURNAL, "rb") as journal:
        for line, (split, raw) in zip(journal, _jobs(pairs), strict=False):
            if not line.endswith(b"\n"):  # the run was killed while it wrote
                break
            split_then, pair, digest, stamp_then = json.loads(line)
            pair = Pair(**pair)
            cache_end = cache_bytes[split] + (record_bytes(manifest, pair) if cached else 0)
            if (split_then, pair.name, stamp_then) != (
                split,
                raw.name,
                stamp(raw),
            ) or cache_end > cache_there[split]:
                break
            finished.add(split, pair, digest)
            journal_bytes += len(line)
            cache_bytes[split] = cache_end
    os.truncate(folder / JOURNAL, journal_bytes)
    for split in SPLITS:
        os.truncate(cache_file(folder, split), cache_bytes[split])
        names = {pair.name for pair in finished.pairs[split]}
        for kind in KINDS:
            place = manifest.path(folder, split, kind, "").parent
            place.mkdir(exist_ok=True)
            for file in place.iterdir():
                if file.stem not in names:
                    file.unlink()
    return finished


def refusal(problems: list[Problem]) -> InputError:
    """The first problem as a sentence."""
    first = problems[0]
    count = sum(problem.kind == first.kind for problem in problems)
    more = f" ({count} such files)" if count > 1 else ""
    return InputError(
        f"--raw-data: {first.file} {first.found}{more}: {REMEDIES[first.kind]}; `--check` lists "
        "all problems."
    )
