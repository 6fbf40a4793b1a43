"""What of a data set is written: the journal, from which an interrupted run goes on."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from components.prepare.layouts.pairing import RawPair
from components.prepare.stamps import file_stamp
from components.prepare.writing.folders import clear
from shared.contracts.dataset import SPLITS, DatasetManifest, Pair
from shared.data.frames import CACHE, cache_file, record_bytes
from shared.files.writing import write_atomically

JOURNAL = "journal.jsonl"  # one line per pair that is done, in order
SETTINGS = "settings.json"  # what the journal belongs to
KINDS = ("input", "photo", "instance")
FLUSH_SECONDS = 2


def jobs(pairs: dict[str, list]) -> Iterator[tuple[str, RawPair | Pair]]:
    """Split and pair, in the order in which they are written and hashed."""
    return ((split, pair) for split in SPLITS for pair in pairs[split])


def stamp(pair: RawPair) -> str:
    """Stamps of the source files: changes when one of them does."""
    files = dict.fromkeys(filter(None, (pair.input, pair.photo, pair.instance)))
    return " ".join(map(file_stamp, map(os.stat, files)))


def source_digest(pairs: dict[str, list[RawPair]]) -> str:
    """Short SHA-256 of the names and stamps of all pairs."""
    sha = hashlib.sha256()
    for split, pair in jobs(pairs):
        sha.update(f"{split}/{pair.name} {stamp(pair)}\n".encode())
    return sha.hexdigest()[:16]


def hash_pair(job: tuple[str, Pair], folder: Path, manifest: DatasetManifest) -> str:
    """Digest of a prepared pair's files as they are now; "" where one is missing."""
    split, pair = job
    kinds = ["input"] + ["photo"] * pair.has_photo + ["instance"] * manifest.has_instances
    sha = hashlib.sha256()
    for kind in kinds:  # in the order in which they are written
        path = manifest.path(folder, split, kind, pair.name)
        if not path.is_file():
            return ""
        sha.update(path.read_bytes())
    return sha.hexdigest()


class Finished:
    """The pairs that are done, by split, and the digests of the data set that they make."""

    def __init__(self):
        self.pairs: dict[str, list[Pair]] = {split: [] for split in SPLITS}
        self._sha, self._test_sha = hashlib.sha256(), hashlib.sha256()

    def __len__(self) -> int:
        return sum(map(len, self.pairs.values()))

    def add(self, split: str, pair: Pair, digest: str) -> None:
        """Count a pair as done, in the order of `jobs`; `digest` is of its files."""
        self.pairs[split].append(pair)
        line = f"{split}/{pair.name} {digest}\n".encode()
        self._sha.update(line)
        if split == "test":
            self._test_sha.update(line)

    def digest(self) -> str:
        """Short SHA-256 of the whole data set."""
        return self._sha.hexdigest()[:16]

    def test_digest(self) -> str:
        """Short SHA-256 of its test pairs."""
        return self._test_sha.hexdigest()[:16]


class Journal(contextlib.ExitStack):
    """The files that grow while a data set is written: the journal itself, and a cache per split.

    The journal is opened first and so closed last, since it vouches for the others.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self._lines = self.enter_context(open(folder / JOURNAL, "a"))
        self._caches = {
            split: self.enter_context(open(cache_file(folder, split), "ab")) for split in SPLITS
        }
        self._flushed = time.monotonic()

    def add(self, split: str, pair: Pair, digest: str, stamp: str, record: bytes) -> None:
        """Note a pair whose files are written; `record` goes into the cache, b"" without one."""
        self._caches[split].write(record)
        self._lines.write(json.dumps([split, asdict(pair), digest, stamp]) + "\n")

        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            for file in (*self._caches.values(), self._lines):  # the journal last
                file.flush()
            self._flushed = time.monotonic()


def take_over(
    folder: Path, manifest: DatasetManifest, pairs: dict[str, list[RawPair]], cached: bool
) -> Finished:
    """Keep what an earlier run of the same command did, as long as its source is the same, and
    throw the rest away.

    Args:
        folder: The hidden folder that is written to; new, or as that run left it.
        manifest: Without pairs yet.
        cached: Whether records of the pairs go into the cache.
    """
    # With other options all of it goes. The digest of the source may differ: the journal has a
    # stamp for each pair.
    settings = manifest.model_dump_json(exclude={"source_digest"}).encode()
    if not (folder / SETTINGS).is_file() or (folder / SETTINGS).read_bytes() != settings:
        (folder / JOURNAL).unlink(missing_ok=True)  # first: it vouches for the others
        clear(folder)
        write_atomically(folder / SETTINGS, settings)
    (folder / JOURNAL).touch()
    (folder / CACHE).mkdir(exist_ok=True)
    for split in SPLITS:
        cache_file(folder, split).touch()

    # The journal holds up to its first line that is cut off by a kill, of another pair, or without
    # its files or its record in the cache: a loss of power may keep the line and lose these.
    finished, journal_bytes = Finished(), 0
    cache_bytes = dict.fromkeys(SPLITS, 0)
    cache_there = {split: cache_file(folder, split).stat().st_size for split in SPLITS}
    with open(folder / JOURNAL, "rb") as journal:
        for line, (split, raw) in zip(journal, jobs(pairs), strict=False):
            if not line.endswith(b"\n"):
                break
            split_then, values, digest, stamp_then = json.loads(line)
            pair = Pair(**values)
            if (split_then, pair.name, stamp_then) != (split, raw.name, stamp(raw)):
                break
            if hash_pair((split, pair), folder, manifest) != digest:
                break
            cache_end = cache_bytes[split] + (record_bytes(manifest, pair) if cached else 0)
            if cache_end > cache_there[split]:
                break
            finished.add(split, pair, digest)
            journal_bytes += len(line)
            cache_bytes[split] = cache_end

    # What lies behind that is cut off, and files of pairs that it does not name go.
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


def remove_journal(folder: Path) -> None:
    """Leave nothing of an interrupted run's traces in a folder that is whole now."""
    for name in (JOURNAL, SETTINGS):
        (folder / name).unlink()
