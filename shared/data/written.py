"""The image files of a data set, each held against what its manifest says when it is read: what is
read is what prepare wrote, also where files are exchanged meanwhile."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np

from shared.contracts.dataset import SUMS, DatasetManifest, Kind, Pair, Split
from shared.contracts.labels import IGNORED
from shared.data.headers import OpenedImage
from shared.data.images import read_ids, read_picture
from shared.errors import InputError

SLACK_NS = 1_000_000_000  # by which the clock of a disk may be behind ours
REMEDY = "put back what prepare wrote, or prepare the data set again"


class NotAsPrepared(InputError):
    """A file of a data set is not the one that prepare wrote."""


class DatasetFiles:
    """The image files of one split. One that was touched after this was made is read only if its
    SHA-256 is the one that prepare has noted."""

    def __init__(self, dataset: Path, manifest: DatasetManifest, split: Split):
        self.dataset, self.manifest, self.split = Path(dataset), manifest, split
        self._made_ns = time.time_ns()
        paths = (manifest.path(self.dataset, split, kind, "any") for kind in get_args(Kind))
        self._places = {path.parent: _place(path.parent) for path in paths}

    def path(self, kind: Kind, pair: Pair) -> Path:
        """The file of one map or photo."""
        return self.manifest.path(self.dataset, self.split, kind, pair.name)

    def ids(self, kind: Literal["input", "instance"], pair: Pair) -> np.ndarray:
        """Labels or instance ids (height, width). Raises NotAsPrepared."""
        path = self.path(kind, pair)
        kinds = [("PNG", "1 channel of 8 bits")]
        if kind == "instance":
            kinds.append(("PNG", "1 channel of 16 bits"))
        if path.suffix == ".tif":
            kinds = [("TIFF", "1 channel of 32 bits, signed")]
        ids = self._read(path, pair, kinds, read_ids)

        # With 1 added IGNORED, the highest, becomes the lowest.
        num_labels = self.manifest.num_labels
        if kind == "input" and int((ids + np.uint8(1)).max()) > num_labels:
            highest = int(ids[ids != IGNORED].max())
            raise self._not_as_written(path, f"has label {highest} of {num_labels} labels")
        return ids

    def picture(self, kind: Literal["input", "photo"], pair: Pair, channels: int) -> np.ndarray:
        """(channels, height, width) uint8; photos may be wanted as grey. Raises NotAsPrepared."""
        stored = 3 if kind == "photo" else self.manifest.input_nc
        format = "npy" if stored > 4 else "PNG"
        kinds = [(format, f"{stored} channel{'s' * (stored > 1)} of 8 bits")]
        read = partial(read_picture, channels=channels)
        return self._read(self.path(kind, pair), pair, kinds, read)

    def input(self, pair: Pair) -> np.ndarray:
        """Labels (height, width), or a picture (input_nc, height, width). Raises NotAsPrepared."""
        channels = self.manifest.input_nc
        return self.picture("input", pair, channels) if channels else self.ids("input", pair)

    def refuse_other_instances(self, pair: Pair, found: int, is_whole: bool) -> None:
        """Raises NotAsPrepared for another number of instances than the manifest says.

        is_whole: whether they were counted at the size of the file; else some may have no pixel."""
        if found > pair.num_instances or (is_whole and found < pair.num_instances):
            wanted = f"manifest.json says {pair.num_instances}"
            path = self.path("instance", pair)
            raise self._not_as_written(path, f"has {found} instances where {wanted}")

    def _read(
        self,
        path: Path,
        pair: Pair,
        kinds: list[tuple[str, str]],
        read: Callable[..., np.ndarray],
    ) -> np.ndarray:
        """kinds: format and description, as of `ImageHeader`, that the file may have."""

        def check(opened: OpenedImage) -> None:
            status = os.fstat(opened.file.fileno()) if opened.file else os.stat(path)
            if self._is_touched(path, status):
                self._refuse_other_content(path, opened.file, status)
            header = opened.header
            is_plain = header.palette is None and header.orientation == 1
            fits = is_plain and (header.format, header.description) in kinds
            if not fits or (header.height, header.width) != (pair.height, pair.width):
                found = f"is {header.height}x{header.width}, {header.format}, {header.description}"
                found += " with a palette" * (header.palette is not None)
                found += " that EXIF turns" * (header.orientation != 1)
                wanted = f"{pair.height}x{pair.width}, {', '.join(kinds[0])}"
                raise self._not_as_written(path, f"{found}, where manifest.json says {wanted}")

        try:
            return read(path, check=check)
        except NotAsPrepared:
            raise
        except InputError as error:
            found = str(error).removeprefix(f"{path} ")
            raise self._not_as_written(path, found.rpartition(": ")[0] or found[:-1]) from None

    def _is_touched(self, path: Path, status: os.stat_result) -> bool:
        """Whether the file, or the folder in which it lies, is another one by now, perhaps."""
        return _newest_ns(status) > self._made_ns - SLACK_NS or self._lies_elsewhere(path)

    def _lies_elsewhere(self, path: Path) -> bool:
        return _place(path.parent) != self._places[path.parent]

    def _refuse_other_content(
        self, path: Path, file: BinaryIO | None, status: os.stat_result
    ) -> None:
        """A file that was only copied, linked or moved back has the digest that it had. Of earlier
        versions' data sets its time has to do."""
        if self.manifest.files:
            wanted = self._sums[path.relative_to(self.dataset).as_posix()]
            # Not where the file stands: a decoder goes on from there.
            content = os.pread(file.fileno(), status.st_size, 0) if file else path.read_bytes()
            is_other = hashlib.sha256(content).hexdigest() != wanted
        else:
            is_other = status.st_mtime_ns > self._made_ns
        if is_other:
            raise self._not_as_written(path, "has other content")

    @cached_property
    def _sums(self) -> dict[str, str]:
        return read_sums(self.dataset, self.manifest)

    def _not_as_written(self, path: Path, found: str) -> NotAsPrepared:
        is_new = self._lies_elsewhere(path)
        with contextlib.suppress(OSError):
            place = path if path.exists() else path.parent
            is_new |= _newest_ns(os.stat(place)) > self._made_ns
        since = "the data set was changed since this step began to read it: " * is_new
        return NotAsPrepared(f"{since}{path} {found}: {REMEDY}.")


def _newest_ns(status: os.stat_result) -> int:
    """When a file was changed; ctime is what no program sets."""
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _place(folder: Path) -> tuple[int, int] | None:
    """A folder's number on its disk, None = it is not there."""
    with contextlib.suppress(OSError):
        status = os.stat(folder)
        return status.st_dev, status.st_ino
    return None


# All of it.


def sum_line(digest: str, file: str) -> str:
    """A line of SUMS, in which sha256sum escapes what would break it."""
    escaped = file.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == file else chr(92)}{digest}  {escaped}\n"


def read_sums(dataset: Path, manifest: DatasetManifest) -> dict[str, str]:
    """SHA-256 of each image file as prepare wrote it, by its place in the data set. Raises
    NotAsPrepared."""
    path = Path(dataset) / SUMS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotAsPrepared(f"{path} cannot be read ({error.strerror}): {REMEDY}.") from None
    if hashlib.sha256(content).hexdigest() != manifest.files[SUMS]:
        raise NotAsPrepared(f"{path} is not the file that manifest.json names: {REMEDY}.")
    sums = {}
    for line in content.decode().splitlines():
        digest, _, file = line.partition("  ")
        if digest.startswith("\\"):
            parts = file.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r")
            file = parts.replace("\0", "\\")
        sums[file] = digest.lstrip("\\")
    return sums
