"""How the files of new scenes become maps: as the raw files of the data set that the model was
trained on, or as they are, since they are prepared already."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from components.export.synthesise.config import MapsName
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard
from shared.contracts.labels import IGNORED, Label, RawReading
from shared.contracts.model import GeneratorInput, ModelCard
from shared.data.colours import UNKNOWN, of_other_label, says_colours
from shared.data.headers import ImageHeader, probe
from shared.data.images import WrongContent, read_ids, read_picture
from shared.data.raw_maps import IdTable, LabelReader, connected_components, in_words, lossy_kind
from shared.errors import InputError

MOST_NAMED = 8


@dataclass(frozen=True)
class MapReading:
    """How the files of a scene are read."""

    reads: GeneratorInput
    labels: LabelReader | None  # None: the input is a picture
    raw: RawReading  # of the data set
    is_raw: bool  # label maps are read as those of the data set were
    named: list[Label]  # names and colours of the data set's labels

    @property
    def _levels(self) -> tuple[int, str]:
        """What becomes white, and of transparent pixels, in pictures."""
        return self.raw.white_level, self.raw.transparency

    def input(self, path: Path) -> np.ndarray:
        """Labels (H, W) uint8, or a picture (C, H, W) uint8. Raises InputError for other files and
        for what has no label."""
        if not self.labels:
            with errors_name_flag("--image", f"a picture of {self.reads.input_nc} channels"):
                return read_picture(path, self.reads.input_nc, *self._levels)
        with errors_name_flag("--labels", "one grey or palette channel of label ids"):
            header, pixels = _checked_header(path), self.labels.pixels(path)
            labels, unknown = self.labels.translate(pixels)
            if unknown:
                raise InputError(f"{path} has {self._without_label(unknown)}.")
            if says_colours(header.palette) and not self.labels.colours:
                self._refuse_other_palette(path, np.unique(pixels), header.palette)
        return labels

    def _refuse_other_palette(self, path: Path, used: np.ndarray, palette: np.ndarray) -> None:
        """Raises InputError where a number that is used has the colour of another label."""
        used = used[used < len(palette)]
        meant = zip(
            self.labels.ids.new[used].tolist(), map(tuple, palette[used].tolist()), strict=True
        )
        if other := of_other_label(meant, self.named):
            label, colour, owner = other
            raise InputError(
                f"{path} has colour {list(colour)} in its palette for label {label}, but the "
                f"model knows it as label {owner.id} ({owner.name}): save it with the palette of "
                "the training maps."
            )

    def instances(self, path: Path | None, labels: np.ndarray) -> np.ndarray:
        """Instance ids (H, W); without a file the regions of the labels."""
        if path is None:
            return connected_components(labels)
        with errors_name_flag("--instances", "one grey or palette channel of instance ids"):
            _checked_header(path)
            return read_ids(path)

    def photo(self, path: Path) -> np.ndarray:
        """(3, H, W) uint8."""
        with errors_name_flag("--photo", "a grey or colour picture"):
            return read_picture(path, 3, *self._levels)

    def _without_label(self, unknown: dict[str, float]) -> str:
        """What has no label, and what to do about it."""
        found = in_words(unknown)
        known = f"0 to {self.reads.num_labels - 1}, and {IGNORED} for none"
        if self.labels.colours:
            return (
                f"colours that the model's labels do not name: {found}: correct the map, or say "
                "--maps prepared where it holds ids of the data set"
            )
        if self.is_raw:
            return (
                f"ids that the data set of the model had no label for: {found}: correct the map, "
                "or say --maps prepared where it holds ids of the data set"
            )
        return (
            f"labels {found} but the model knows {known}: renumber the labels as they were in "
            "training"
        )


def _checked_header(path: Path) -> ImageHeader:
    """The header of a map. Raises InputError for a file whose compression changes ids."""
    header = probe(path)
    if kind := lossy_kind(header):
        raise InputError(
            f"{path} is {kind}, which changes ids at every edge: save it as PNG where it comes "
            "from."
        )
    return header


@contextmanager
def errors_name_flag(flag: str, wanted: str) -> Iterator[None]:
    """What is wrong with a file, said with the flag it was given by and what that flag wants."""
    try:
        yield
    except WrongContent as error:
        found = str(error).partition(": give ")[0]
        raise InputError(f"{flag}: {found}: give {wanted}.") from None
    except InputError as error:
        raise InputError(f"{flag}: {error}") from None


def reading_for(
    maps: MapsName, reads: GeneratorInput, card: ModelCard | ExportCard, files: list[Path]
) -> MapReading:
    """How the given files are read; says so where it makes a difference.

    maps: "auto" finds out by where they lie and by what is in them. Raises InputError where that
    cannot be known, and where "raw" contradicts it.
    """
    # Pictures are read in one way.
    if reads.input_nc:
        return MapReading(reads, None, card.raw, is_raw=True, named=[])

    # The two ways, which are one where the data set took ids as they were. A map may always say
    # "none".
    as_they_are = LabelReader(IdTable.of(reads.num_labels, "", str(IGNORED)))
    as_raw = LabelReader.of(card.raw, card.labels, reads.num_labels)
    new = as_raw.ids.new.copy()
    new[IGNORED] = IGNORED if new[IGNORED] == UNKNOWN else new[IGNORED]
    as_raw = replace(as_raw, ids=replace(as_raw.ids, new=new))
    if not as_raw.colours and np.array_equal(new, as_they_are.ids.new):
        return MapReading(reads, as_they_are, card.raw, False, card.labels)

    # What was said, or else what they are.
    of_dataset = [file for file in files if (file.parent.parent / DatasetManifest.FILE).is_file()]
    if maps == "raw" and of_dataset:
        raise InputError(
            f"--maps raw: {of_dataset[0]} lies in a prepared data set: leave --maps out."
        )
    if maps == "auto" and len(of_dataset) == len(files):
        maps = "prepared"
    if maps == "auto":
        maps = _look(files, as_raw, as_they_are)
    is_raw = maps == "raw"
    how = describe_raw(card) if is_raw else "ids are those of the data set"
    print(f"label maps are {maps}: {how}", flush=True)
    reader = as_raw if is_raw else as_they_are
    return MapReading(reads, reader, card.raw, is_raw, card.labels)


def describe_raw(card: ModelCard | ExportCard) -> str:
    """What becomes of the numbers or colours of raw label maps, in words."""
    raw = card.raw
    if raw.coloured:
        within = f", {raw.colour_tolerance} levels off at most" if raw.colour_tolerance else ""
        return f"colours become labels as in training{within}"
    flags = (("--remap", raw.remap), ("--ignore-labels", raw.ignore_labels))
    given = " ".join(f"{flag} {value}" for flag, value in flags if value)
    return f"ids are renumbered as in training ({given})"


def _look(files: Iterable[Path], as_raw: LabelReader, as_they_are: LabelReader) -> MapsName:
    """Find out by what is in the maps. Raises InputError where both could be, with other labels."""
    # What they hold, over all of them; a colour tells at once.
    found: set[int] = set()
    for file in files:
        with errors_name_flag("--labels", "one grey or palette channel of label ids"):
            if as_raw.colours and probe(file).mode not in ("1", "L", "npy"):
                return "raw"
            ids = read_ids(file)
        found |= {*np.unique(ids).tolist()}

    # What that would become; greys are colours, too. Prepared maps hold labels that come out.
    ids = np.array(sorted(found))[None]  # (1, K), a map of all
    labels, unknown = as_raw.translate(as_raw.as_greys(ids))
    come_out = as_raw.colours.labels if as_raw.colours else as_raw.ids.new
    if not found <= {IGNORED, *np.unique(come_out).tolist()} - {UNKNOWN}:
        return "raw"
    if unknown:
        return "prepared"
    if np.array_equal(labels, ids):
        return "raw"
    some = ", ".join(map(str, sorted(found)[:MOST_NAMED])) + ", ..." * (len(found) > MOST_NAMED)
    raise InputError(
        f"--labels holds ids {some} alone, which may be those of raw files, which training "
        "renumbered, or those of the data set: say which with --maps raw or --maps prepared."
    )
