"""The files that pictures are synthesised from, paired by name, and what is in them."""

from dataclasses import dataclass
from pathlib import Path

from components.export.synthesise.config import SceneOptions
from components.export.synthesise.map_reading import MapReading
from shared.contracts.dataset import DatasetManifest, Pair
from shared.contracts.model import GeneratorInput, describe_input
from shared.data.maps import Sample
from shared.data.names import CITYSCAPES_ENDINGS, IMAGE_SUFFIXES, is_image
from shared.data.written import DatasetFiles
from shared.errors import InputError

ENDINGS = {  # of Cityscapes' raw names
    "--labels": CITYSCAPES_ENDINGS["input"],
    "--image": CITYSCAPES_ENDINGS["photo"],
    "--instances": CITYSCAPES_ENDINGS["instance"],
    "--photo": CITYSCAPES_ENDINGS["photo"],
}


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """What one picture is painted from, as files."""

    name: str
    input: Path
    instances: Path | None
    photo: Path | None

    regions_are_instances: bool = False  # of one label, in place of a file
    prepared: tuple[DatasetFiles, Pair] | None = None  # where they are those of a data set

    def read(self, reading: MapReading, least_side: int = 2) -> Sample:
        """The maps in the files. Raises InputError for files that cannot be read, are too small or
        of two sizes, and for unknown labels."""
        files, pair = self.prepared or (None, None)
        inputs = files.input(pair) if files else reading.input(self.input)
        height, width = inputs.shape[-2:]
        if min(height, width) < least_side:
            flag = "--labels" if reading.labels else "--image"
            least = f"{least_side}x{least_side}"
            raise InputError(f"{flag}: {self.input} is {height}x{width}: give {least} or more.")
        instances = None
        if files and self.instances:
            instances = files.ids("instance", pair)
        elif self.instances or self.regions_are_instances:
            instances = reading.instances(self.instances, inputs)
            if instances.shape != (height, width):
                found = "x".join(map(str, instances.shape))
                raise InputError(
                    f"--instances: {self.instances} is {found} but {self.input} is "
                    f"{height}x{width}: give both maps one size."
                )
        photo = reading.photo(self.photo) if self.photo else None
        return Sample.of_maps(self.name, inputs, instances, photo)


def find_scenes(
    options: SceneOptions,
    photo: Path | None,
    reads: GeneratorInput,
    painter: str,
    instances_for: str | None,
    regions_are_instances: bool,
) -> list[SceneFiles]:
    """The scenes that the flags name, sorted; maps and photos of one name belong together.

    Args:
        painter: Flag and folder of the model, for what is said to people.
        instances_for: What needs instance maps, for people; None where nothing does.
        regions_are_instances: Where none are given: so it was in training.

    Raises InputError for another kind of input than the model's, and for maps that are lacking.
    """
    if options.dataset:
        inputs, instances, prepared = files_of_dataset(options, reads, painter, instances_for)
    else:
        flag, place = ("--labels", options.labels) if options.labels else ("--image", options.image)
        wanted = "--image" if reads.input_nc else "--labels"
        if flag != wanted:
            raise InputError(
                f"{flag} {place} was given but {painter} takes {describe_input(reads)}: "
                f"give them as {wanted}."
            )
        if instances_for and not (options.instances or regions_are_instances):
            raise InputError(
                f"--instances is missing but {instances_for} needs it: give the instance maps of "
                f"{place}, or say --instances components."
            )
        if options.instances and not instances_for:
            raise InputError(
                f"--instances {options.instances} was given but {painter} takes none: leave it out."
            )
        inputs = named_files(flag, place)
        instances = partners("--instances", options.instance_place, inputs)
        prepared = dict.fromkeys(inputs)
    photos = partners("--photo", photo, inputs)
    with_regions = bool(instances_for) and not any(instances.values())
    return [
        SceneFiles(name, file, instances[name], photos[name], with_regions, prepared[name])
        for name, file in inputs.items()
    ]


def files_of_dataset(
    options: SceneOptions, reads: GeneratorInput, painter: str, instances_for: str | None
) -> tuple[dict[str, Path], dict[str, Path | None], dict[str, tuple[DatasetFiles, Pair]]]:
    """Inputs and instance maps of one split, and what knows how they were written, by name."""
    manifest = DatasetManifest.read(options.dataset)
    if describe_input(manifest) != describe_input(reads):
        raise InputError(
            f"--dataset {options.dataset} has {describe_input(manifest)} as input but {painter} "
            f"takes {describe_input(reads)}: give a data set of the same input."
        )
    if instances_for and not manifest.has_instances:
        raise InputError(
            f"--dataset {options.dataset} has no instance maps but {instances_for} needs them: "
            "give one with them."
        )
    pairs = getattr(manifest, options.split)
    if not pairs:
        raise InputError(
            f"--dataset {options.dataset} has no pairs in its {options.split} split: give another "
            "--split."
        )
    files = DatasetFiles(options.dataset, manifest, options.split)
    inputs = {pair.name: files.path("input", pair) for pair in pairs}
    instances = dict.fromkeys(inputs)
    if instances_for:
        instances = {pair.name: files.path("instance", pair) for pair in pairs}
    return inputs, instances, {pair.name: (files, pair) for pair in pairs}


def named_files(flag: str, place: Path) -> dict[str, Path]:
    """Scene name -> the file itself, or each image file below a folder; of Cityscapes' raw names
    only the flag's."""
    if place.is_file():
        files = [place]
    elif place.is_dir():
        files = sorted(path for path in place.rglob("*") if is_image(path.name))
        files = [file for file in files if file.stem.endswith(ENDINGS[flag])] or files
    else:
        raise InputError(f"{flag} {place} is missing: give a file or a folder.")
    if not files:
        raise InputError(
            f"{flag} {place} holds no images: give a folder of {' '.join(IMAGE_SUFFIXES)} files."
        )
    named: dict[str, Path] = {}
    for file in files:
        other = named.setdefault(file.stem.removesuffix(ENDINGS[flag]), file)
        if other is not file:
            raise InputError(
                f"{flag} {place} holds {other} and {file}, of one name: rename one of them."
            )
    return named


def partners(flag: str, place: Path | None, inputs: dict[str, Path]) -> dict[str, Path | None]:
    """The file of each scene in `place`. A single file belongs to a single input, whatever it is
    called."""
    if place is None:
        return dict.fromkeys(inputs)
    found = named_files(flag, place)
    if place.is_file() and len(inputs) == 1:
        return dict.fromkeys(inputs, place)
    lacking = [name for name in inputs if name not in found]
    if lacking:
        raise InputError(
            f"{flag} {place} has no file named {lacking[0]} for {inputs[lacking[0]]} "
            f"({len(lacking)} of {len(inputs)} inputs lack one): give one for every input."
        )
    return {name: found[name] for name in inputs}
