"""Whether a data set is, file by file, as prepare wrote it."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from shared.contracts.dataset import SPLITS, DatasetManifest, Pair
from shared.data.frames import FrameCache
from shared.data.written import REMEDY, NotAsPrepared, read_sums
from shared.files.digests import refused_if_unreadable
from shared.terminal.progress import progress

THREADS, AT_ONCE = 8, 1024  # pairs


def check_dataset(dataset: Path, manifest: DatasetManifest) -> None:
    """Read a data set and its cache to the end and compare them with what prepare has noted; print
    what was looked at. Raises NotAsPrepared."""
    refuse_other_files(dataset, manifest)
    caches = [FrameCache.open(dataset, manifest, split) for split in SPLITS]
    records = [(cache, index) for cache in caches if cache for index in range(len(cache.pairs))]
    if records:
        for cache, index in progress(records, "cache: checked", len(records), "records"):
            cache.bytes_of(index)
    print(f"{dataset} is as prepare wrote it, digest {manifest.digest}", flush=True)


def refuse_other_files(dataset: Path, manifest: DatasetManifest) -> None:
    """Raises NotAsPrepared for an image file that is missing or not the one that prepare wrote; of
    a data set of an earlier version, which noted one digest alone, nobody knows which it is."""
    places = [
        (split, pair, _places(manifest, split, pair))
        for split in SPLITS
        for pair in getattr(manifest, split)
    ]
    sums = read_sums(dataset, manifest) if manifest.files else {}
    if sums and len(sums) != sum(len(files) for *_, files in places):
        raise NotAsPrepared(
            f"manifest.json of {dataset} does not name the pairs of SHA256SUMS: {REMEDY}."
        )

    # File by file, in their order.
    whole = hashlib.sha256()
    results = _in_threads(Path(dataset), places, together=not sums)
    for split, pair, digest, files in progress(results, "images: checked", len(places), "pairs"):
        whole.update(f"{split}/{pair.name} {digest}\n".encode())
        for place, found in files.items():
            if sums and sums.get(place) != found:
                how = "has other content" if found else "is missing"
                raise NotAsPrepared(f"{Path(dataset) / place} {how}: {REMEDY}.")
    if not sums and whole.hexdigest()[:16] != manifest.digest:
        raise NotAsPrepared(
            f"an image file of {dataset} is missing or has other content: {REMEDY}."
        )


def _places(manifest: DatasetManifest, split: str, pair: Pair) -> list[str]:
    """The files of a pair, below the data set."""
    kinds = manifest.kinds_of(pair)
    return [manifest.path(Path(), split, kind, pair.name).as_posix() for kind in kinds]


def _in_threads(
    dataset: Path, places: list[tuple[str, Pair, list[str]]], together: bool
) -> Iterator[tuple[str, Pair, str, dict[str, str]]]:
    """Of each pair the digest of its files together, where that is asked for, and of each, "" of
    one that is missing."""

    def digests_of(one: tuple[str, Pair, list[str]]) -> tuple[str, Pair, str, dict[str, str]]:
        split, pair, files = one
        whole, digests = hashlib.sha256(), {}
        for place in files:
            with refused_if_unreadable():
                content = (dataset / place).read_bytes() if (dataset / place).is_file() else None
            whole.update(content if content and together else b"")
            digests[place] = "" if content is None else hashlib.sha256(content).hexdigest()
        return split, pair, whole.hexdigest(), digests

    rest = iter(places)
    with ThreadPoolExecutor(THREADS) as pool:
        while some := list(islice(rest, AT_ONCE)):
            yield from pool.map(digests_of, some)
