"""What of a data set is written: the journal, from which an interrupted run goes on."""

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from components.prepare.layouts.pairing import RawPair
from components.prepare.stamps import file_stamp
from components.prepare.writing.folders import clear
from shared.contracts.dataset import SPLITS, SUMS, DatasetManifest, Pair
from shared.data.frames import CACHE, cache_file, checksum, record_bytes
from shared.data.written import sum_line
from shared.files.digests import sha256_of
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


@dataclass(frozen=True, slots=True)
class Written:
    """A pair whose files are written."""

    split: str
    pair: Pair
    sums: dict[str, str]  # SHA-256 of each file, by its place in the data set
    digest: str  # of all of them
    stamp: str  # of its source files
    checksum: int  # of its record in the cache, 0 = it has none

    def line(self) -> str:
        """Of the journal: JSON with a checksum before it."""
        text = json.dumps(asdict(self))
        return f"{zlib.crc32(text.encode()):08x} {text}\n"

    @classmethod
    def of_line(cls, line: bytes) -> Self | None:
        """None for a line that is cut off or damaged."""
        checksum, _, text = line.removesuffix(b"\n").partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
            return None
        values = json.loads(text)
        return cls(**values | {"pair": Pair(**values["pair"])})


class Finished:
    """The pairs that are done, by split, and the digests of the data set that they make."""

    def __init__(self):
        self.pairs: dict[str, list[Pair]] = {split: [] for split in SPLITS}
        self.checksums: dict[str, list[int]] = {split: [] for split in SPLITS}
        self._sha, self._test_sha = hashlib.sha256(), hashlib.sha256()

    def __len__(self) -> int:
        return sum(map(len, self.pairs.values()))

    def add(self, one: Written) -> None:
        """Count a pair as done, in the order of `jobs`."""
        self.pairs[one.split].append(one.pair)
        self.checksums[one.split].append(one.checksum)
        line = f"{one.split}/{one.pair.name} {one.digest}\n".encode()
        self._sha.update(line)
        if one.split == "test":
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

    def add(self, one: Written, record: bytes) -> None:
        """Note a pair; `record` goes into the cache, b"" without one."""
        self._caches[one.split].write(record)
        self._lines.write(one.line())

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

    # The journal holds up to its first line that is cut off by a kill, of another pair, or of files
    # and a record that are not there as they were written.
    finished, journal_bytes = Finished(), 0
    cache_bytes = dict.fromkeys(SPLITS, 0)
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(open(folder / JOURNAL, "rb"))
        caches = {s: stack.enter_context(open(cache_file(folder, s), "rb")) for s in SPLITS}
        for line, (split, raw) in zip(journal, jobs(pairs), strict=False):
            one = Written.of_line(line)
            if one and (one.split, one.pair.name, one.stamp) != (split, raw.name, stamp(raw)):
                break
            wanted = record_bytes(manifest, one.pair) if one and cached else 0
            record = caches[split].read(wanted)
            if len(record) < wanted:
                break
            if one is None or not _is_there(folder, one, record):
                if line.endswith(b"\n"):
                    print(
                        f"prepare: {raw.name} is damaged in what an earlier run left in {folder}: "
                        "it goes on from there",
                        flush=True,
                    )
                break
            finished.add(one)
            journal_bytes += len(line)
            cache_bytes[split] += len(record)

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


def _is_there(folder: Path, one: Written, record: bytes) -> bool:
    """Whether the files of a pair and its record are those that were written."""
    if record and checksum(record) != one.checksum:
        return False
    files = {place: folder / place for place in one.sums}
    return all(
        path.is_file() and sha256_of(path).hex() == one.sums[place] for place, path in files.items()
    )


def write_sums(folder: Path) -> dict[str, str]:
    """Write SUMS by what the journal says; its SHA-256, as `DatasetManifest.files` has it."""
    sha = hashlib.sha256()
    with open(folder / JOURNAL, "rb") as journal, open(folder / SUMS, "wb") as sums:
        for line in journal:
            for place, digest in Written.of_line(line).sums.items():
                content = sum_line(digest, place).encode()
                sha.update(content)
                sums.write(content)
    return {SUMS: sha.hexdigest()}


def remove_journal(folder: Path) -> None:
    """Leave nothing of an interrupted run's traces in a folder that is whole now."""
    for name in (JOURNAL, SETTINGS):
        (folder / name).unlink()
